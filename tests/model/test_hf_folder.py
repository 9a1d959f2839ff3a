"""Model folders: found by path and hub id, checked by their headers alone, one line for each thing wrong."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from dsm_jax.errors import UserError
from dsm_jax.model import hf, load_hf
from dsm_jax.model.hf_folder import INDEX, find_config, find_folder
from tests.model.hf_cases import GQA, random_tensors, write_folder


@pytest.fixture
def refused(tmp_path):
    """Loads the folder tmp_path, which must end in one line."""

    def check(message: str, **options: str) -> None:
        with pytest.raises(UserError, match=message) as caught:
            load_hf(tmp_path, **options)
        assert "\n" not in str(caught.value)

    write_folder(tmp_path)
    return check


def test_tensors_that_do_not_belong_to_config_json(tmp_path, refused):
    tensors, file = random_tensors(GQA), tmp_path / "model.safetensors"
    save_file({**tensors, "model.norm.bias": np.zeros(64, np.float32)}, file)
    refused("tensor model.norm.bias has no place in the model of config.json")
    save_file({k: v for k, v in tensors.items() if "layers.2" not in k}, file)
    refused("no tensor model.layers.2.input_layernorm.weight .9 missing")
    save_file({**tensors, "lm_head.weight": np.zeros((95, 64), np.float32)}, file)
    refused(r"model.safetensors: lm_head.weight has shape \(95, 64\), config.json asks for \(96, 64\)")
    save_file({**tensors, "lm_head.weight": tensors["lm_head.weight"].astype(ml_dtypes.bfloat16)}, file)
    refused("lm_head.weight is stored as bfloat16, config.json says float32; say which dtype")
    assert str(load_hf(tmp_path, dtype="float32").params["head"].dtype) == "float32"
    save_file({**tensors, "lm_head.weight": np.zeros((96, 64), np.int8)}, file)
    refused("lm_head.weight is stored as I8, which is not supported")
    write_folder(tmp_path, GQA | {"model_type": "qwen2"}, tensors)
    refused("no tensor model.layers.0.self_attn.k_proj.bias .9 missing")


def test_a_torn_file(tmp_path, refused):
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(b"no tensors at all")
    refused("model.safetensors is damaged .no safetensors header")
    file.write_bytes(b"")
    refused("model.safetensors is damaged .no safetensors header")
    file.write_bytes(whole[:300])
    refused("model.safetensors is damaged .no safetensors header")
    file.write_bytes(whole[:-100])
    refused(r"model.safetensors is cut short \(\S+ ends at byte \d+ of \d+\); fetch it again")
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    header["lm_head.weight"]["data_offsets"][1] -= 4
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    refused("model.safetensors is damaged .lm_head.weight has")


def test_a_missing_file(tmp_path, refused):
    (tmp_path / "model.safetensors").unlink()
    refused("model.safetensors is missing; fetch it again")
    (tmp_path / "pytorch_model.bin").touch()
    refused("model.safetensors is missing; .*convert it to safetensors")
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (tmp_path / INDEX).write_text(json.dumps(index))
    refused("model-00001-of-00002.safetensors is missing")
    (tmp_path / "config.json").unlink()
    refused("config.json is missing")


@pytest.mark.parametrize(
    "index",
    [
        [],
        {},
        {"weight_map": []},
        {"weight_map": {"lm_head.weight": 1}},
        {"weight_map": {"a": "../b.safetensors"}},
    ],
    ids=str,
)
def test_an_index_without_weight_map_is_named(tmp_path, index, refused):
    (tmp_path / INDEX).write_text(json.dumps(index))
    refused(f"{INDEX}: its weight_map")


def test_no_memory_for_the_model(refused, monkeypatch):
    monkeypatch.setattr(hf, "available_memory", lambda mesh: 10_000)
    refused(
        "95,680 parameters in float32 need 0.4 MB on each of 1 devices, but there are 0.0 MB; give more devices, or"
    )


def test_names_that_are_no_model(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such folder, and not a hub id"):
        load_hf(tmp_path / "nowhere")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        UserError, match="owner/name: no such folder, not whole in the local cache of the hub"
    ):
        load_hf("owner/name")


def test_no_network(tmp_path, monkeypatch):
    """As the hub's library finds it: its client's own error, which is no OSError."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="owner/name: no such folder, .* and the hub gave: .*; give a folder"):
        load_hf("owner/name")


def test_a_hub_model_without_safetensors(tmp_path, monkeypatch):
    files = [SimpleNamespace(rfilename=name, size=1) for name in ("config.json", "pytorch_model.bin")]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: SimpleNamespace(siblings=files))
    with pytest.raises(UserError, match="owner/name: no model.safetensors there; convert"):
        find_folder("owner/name")


def test_what_is_no_folder_of_a_model(tmp_path, refused):
    with pytest.raises(UserError, match=r"config.json is a file: give its folder"):
        load_hf(tmp_path / "config.json")
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00002.safetensors")
    refused(f"model.safetensors is missing; there are shards: fetch {INDEX}")
    (tmp_path / "model.safetensors").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"
    )
    refused("is a pointer of git-lfs, not the weights: run git lfs pull")
    (tmp_path / "config.json").write_text("{")
    refused("config.json cannot be read as JSON .*: fetch it again")
    (tmp_path / "config.json").write_text("[" * 100_000)
    refused("config.json cannot be read as JSON .*: fetch it again")
    (tmp_path / "config.json").unlink()
    refused("config.json is missing; give the folder of a model")
    (tmp_path / "adapter_config.json").touch()
    refused("holds an adapter: merge it")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_may_not_be_read(refused, name, monkeypatch):
    """As an ordinary user meets it; the tests may run as root."""
    plain = Path.open

    def guarded(self, *args, **options):
        if self.name == name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return plain(self, *args, **options)

    monkeypatch.setattr(Path, "open", guarded)
    refused(f"{name} cannot be read: Permission denied")


def test_a_tied_model_whose_head_is_another_matrix(tmp_path):
    tied = GQA | {"tie_word_embeddings": True}
    tensors = random_tensors(tied)
    same = {"lm_head.weight": tensors["model.embed_tokens.weight"]}
    write_folder(tmp_path, tied, tensors | same)
    assert load_hf(tmp_path).config.tie_embeddings
    for other in (same["lm_head.weight"] + 1, same["lm_head.weight"][:-1]):
        save_file(tensors | {"lm_head.weight": other}, tmp_path / "model.safetensors")
        with pytest.raises(
            UserError, match="config.json ties lm_head.weight to the embedding, but its numbers"
        ):
            load_hf(tmp_path)


def test_several_dtypes_need_a_choice(tmp_path):
    entries = {name: value for name, value in GQA.items() if name != "torch_dtype"}
    tensors = random_tensors(entries)
    first = "model.layers.0.mlp.up_proj.weight"
    write_folder(tmp_path, entries, tensors | {first: tensors[first].astype(ml_dtypes.bfloat16)})
    with pytest.raises(UserError, match="tensors in bfloat16 and float32; say which dtype"):
        load_hf(tmp_path)
    assert str(load_hf(tmp_path, dtype="float32").params["layers"]["up"].dtype) == "float32"


@pytest.mark.parametrize(
    "change",
    [
        {"data_offsets": [0]},
        {"data_offsets": [0, 1, 2]},
        {"data_offsets": [0, float("inf")]},
        {"dtype": ["F32"]},
        {"shape": [-1, 64]},
        {"shape": [[]]},
    ],
    ids=str,
)
def test_a_header_of_another_form(tmp_path, refused, change):
    file = tmp_path / "model.safetensors"
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    header["lm_head.weight"] |= change
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    refused("model.safetensors is damaged .no safetensors header")


def test_a_hub_id_is_found_in_the_local_cache(tmp_path, monkeypatch):
    commit = "0" * 40
    repository = tmp_path / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    (repository / "snapshots").mkdir()
    folder = write_folder(repository / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert find_folder("owner/name") == folder


@pytest.mark.parametrize("name", ["a/b..c", "runs/--x"])
def test_a_name_that_the_hub_refuses(name):
    for find in (find_folder, find_config):
        with pytest.raises(UserError, match=f"{name}: no such folder, and not a hub id"):
            find(name)


def test_a_download_that_does_not_fit_on_the_disk(tmp_path, monkeypatch):
    files = [
        SimpleNamespace(rfilename="model.safetensors", size=5 * 10**18),
        SimpleNamespace(rfilename="a.bin", size=1),
    ]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none" / "yet"))
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: SimpleNamespace(siblings=files))
    with pytest.raises(UserError, match=f"its files take 5000000000.0 GB, but {tmp_path} has .* GB free"):
        find_folder("owner/name")
