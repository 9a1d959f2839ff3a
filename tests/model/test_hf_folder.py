"""Model folders: found by path and hub id, checked by their headers alone, one line for each thing wrong."""

from __future__ import annotations

import json
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
    refused("tensor model.norm.bias is not supported")
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
    refused("parameters in float32 need 0.0 GB on each of 1 devices, but there are 0.0 GB; give more devices")


def test_names_that_are_no_model(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such folder, and not a hub id"):
        load_hf(tmp_path / "nowhere")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="owner/name: not in the local cache"):
        load_hf("owner/name")


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
