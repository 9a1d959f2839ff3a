"""Hugging Face folders: against an independent numpy Llama, there and back, on meshes, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model import Model, hf, load_hf, save_hf
from dsm_jax.model.config import PRESETS, ModelConfig
from dsm_jax.model.decoder import init_params
from dsm_jax.model.hf_config import config_from_hf, config_to_hf

# grouped-query attention, heads whose widths do not add up to d_model, a base and an eps of its own
ENTRIES = {
    "model_type": "llama",
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500.0,
    "max_position_embeddings": 64,
    "torch_dtype": "float32",
}
IDS = np.random.default_rng(1).integers(0, 96, (3, 11))


def random_tensors(entries, seed=0):
    """Tensors under Hugging Face's names, [outputs, inputs], large enough that every part shows in the logits."""
    rng = np.random.default_rng(seed)
    d, f, v = entries["hidden_size"], entries["intermediate_size"], entries["vocab_size"]
    q = entries["num_attention_heads"] * entries["head_dim"]
    kv = entries["num_key_value_heads"] * entries["head_dim"]
    shapes = {"model.embed_tokens.weight": (v, d), "model.norm.weight": (d,), "lm_head.weight": (v, d)}
    for i in range(entries["num_hidden_layers"]):
        layer = {
            "input_layernorm": (d,),
            "post_attention_layernorm": (d,),
            "self_attn.q_proj": (q, d),
            "self_attn.k_proj": (kv, d),
            "self_attn.v_proj": (kv, d),
            "self_attn.o_proj": (d, q),
            "mlp.gate_proj": (f, d),
            "mlp.up_proj": (f, d),
            "mlp.down_proj": (d, f),
        }
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()}
    tensors = {
        name: 1 + 0.5 * rng.standard_normal(shape) if len(shape) == 1 else 0.15 * rng.standard_normal(shape)
        for name, shape in shapes.items()
    }
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


def llama_logits(entries, tensors, ids):
    """A Llama in float64 numpy, from its description: ids [T] -> logits [T, V]."""
    w = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
    heads, kv_heads, width = (entries[k] for k in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    t = len(ids)

    def norm(x, name):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + entries["rms_norm_eps"]) * w[name]

    frequencies = entries["rope_theta"] ** (-np.arange(0, width, 2) / width)
    angles = np.arange(t)[:, None] * np.concatenate([frequencies, frequencies])[None]

    def rope(x):  # [T, heads, width]; halves are turned against each other
        turned = np.concatenate([-x[..., width // 2 :], x[..., : width // 2]], axis=-1)
        return x * np.cos(angles)[:, None] + turned * np.sin(angles)[:, None]

    x = w["model.embed_tokens.weight"][ids]
    for i in range(entries["num_hidden_layers"]):
        at = f"model.layers.{i}."
        h = norm(x, at + "input_layernorm.weight")
        q, k, v = (
            (h @ w[f"{at}self_attn.{part}_proj.weight"].T).reshape(t, count, width)
            for part, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        q, k = rope(q), rope(k)
        attended = np.empty((t, heads, width))
        for head in range(heads):
            kv = head // (heads // kv_heads)
            scores = q[:, head] @ k[:, kv].T / np.sqrt(width)
            scores[np.triu_indices(t, 1)] = -np.inf
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            attended[:, head] = weights / weights.sum(-1, keepdims=True) @ v[:, kv]
        x = x + attended.reshape(t, -1) @ w[at + "self_attn.o_proj.weight"].T
        h = norm(x, at + "post_attention_layernorm.weight")
        gate, up = h @ w[at + "mlp.gate_proj.weight"].T, h @ w[at + "mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[at + "mlp.down_proj.weight"].T
    head = "model.embed_tokens.weight" if entries.get("tie_word_embeddings") else "lm_head.weight"
    return norm(x, "model.norm.weight") @ w[head].T


def write_folder(folder, entries=ENTRIES, tensors=None):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(entries))
    save_file(tensors or random_tensors(entries), folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    "entries", [ENTRIES, {**ENTRIES, "tie_word_embeddings": True}], ids=["untied", "tied"]
)
def test_logits_equal_an_independent_llama(tmp_path, entries):
    tensors = random_tensors(entries)
    if entries.get("tie_word_embeddings"):
        del tensors["lm_head.weight"]
    logits = load_hf(write_folder(tmp_path / "hf", entries, tensors)).logits(IDS)
    expected = np.stack([llama_logits(entries, tensors, row) for row in IDS])
    assert logits.shape == (3, 11, 96) and logits.dtype == np.float32
    assert np.abs(expected).max() > 3  # the comparison has something to compare
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


def test_every_mesh_gives_the_same_logits(tmp_path):
    folder = write_folder(tmp_path / "hf")
    one = load_hf(folder).logits(IDS)
    many = load_hf(folder, parse_mesh(("data=2,fsdp=2,tensor=2",))).logits(IDS)  # 3 rows on 4 shards
    np.testing.assert_allclose(many, one, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_there_and_back_keeps_every_bit(tmp_path, dtype):
    tensors = {name: w.astype(ml_dtypes.bfloat16) for name, w in random_tensors(ENTRIES).items()}
    if dtype == "float32":
        tensors = random_tensors(ENTRIES)
    model = load_hf(write_folder(tmp_path / "in", {**ENTRIES, "torch_dtype": dtype}, tensors))
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(model.params)} == {dtype}
    save_hf(model, tmp_path / "out")
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert saved.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(saved[name].view(np.uint8), tensor.view(np.uint8), err_msg=name)
    assert load_hf(tmp_path / "out").config == model.config


def test_a_model_of_ours_comes_back(tmp_path):
    config = replace(PRESETS["smoke"], n_kv_heads=2)
    model = Model(config, init_params(config, 0, parse_mesh(("fsdp=2,tensor=2,data=2",))))
    save_hf(model, tmp_path / "a")
    save_hf(model, tmp_path / "b")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    back = load_hf(tmp_path / "a")
    assert back.config == config and back.mesh == single_device_mesh()
    jax.tree.map(np.testing.assert_array_equal, back.params, model.params)


def test_a_large_model_is_saved_in_several_files(tmp_path, monkeypatch):
    model = load_hf(write_folder(tmp_path / "in"))
    monkeypatch.setattr(hf, "SHARD_BYTES", 50_000)
    save_hf(model, tmp_path / "out")
    files = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert all(path.stat().st_size < 60_000 for path in (tmp_path / "out").glob("*.safetensors"))
    jax.tree.map(np.testing.assert_array_equal, load_hf(tmp_path / "out").params, model.params)


def test_dtype_chooses_storage_and_compute(tmp_path):
    folder = write_folder(tmp_path / "hf", {**ENTRIES, "torch_dtype": "bfloat16"})
    model = load_hf(folder, dtype="bfloat16")
    assert str(model.params["head"].dtype) == model.config.dtype == "bfloat16"
    model = load_hf(folder, dtype="float32")
    assert str(model.params["head"].dtype) == model.config.dtype == "float32"


def test_deepseek_math_7b_config():
    """The released config.json, as facts."""
    entries = {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 100000,
        "eos_token_id": 100001, "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
        "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "llama",
        "moe_intermediate_size": 11008, "num_attention_heads": 32, "num_hidden_layers": 30,
        "num_key_value_heads": 32, "pretraining_tp": 1, "rms_norm_eps": 1e-06, "rope_scaling": None,
        "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True,
        "vocab_size": 102400,
    }  # fmt: skip
    assert replace(config_from_hf(entries), init_std=0.006) == PRESETS["deepseek_math_7b"]


def test_config_of_transformers_5():
    entries = {k: v for k, v in ENTRIES.items() if k not in ("rope_theta", "torch_dtype")}
    entries |= {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "dtype": "bfloat16"}
    config = config_from_hf(entries)
    assert (config.rope_theta, config.dtype) == (500.0, "bfloat16")


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_every_preset_survives_config_json(config: ModelConfig):
    assert config_from_hf(json.loads(json.dumps(config_to_hf(config, config.dtype)))) == config


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_type": "qwen2"}, "model_type is 'qwen2'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_scaling is"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "rope_parameters of type 'llama3'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is"),
        ({"torch_dtype": "int8"}, "dtype 'int8'"),
        ({"head_dim": 15}, "head_dim 15 is odd"),
    ],
)
def test_what_the_decoder_does_not_compute_is_refused_by_name(change, message):
    with pytest.raises(UserError, match=message):
        config_from_hf({**ENTRIES, **change})


@pytest.mark.parametrize("name", ["hidden_size", "vocab_size"])
def test_a_missing_entry_is_named(name):
    with pytest.raises(UserError, match=f"{name} is missing"):
        config_from_hf({k: v for k, v in ENTRIES.items() if k != name})


def test_bad_folders_are_told_in_one_line(tmp_path):
    folder = write_folder(tmp_path / "hf")

    def refused(message):
        with pytest.raises(UserError, match=message) as caught:
            load_hf(folder)
        assert "\n" not in str(caught.value)

    tensors = random_tensors(ENTRIES)
    save_file({**tensors, "model.norm.bias": np.zeros(48, np.float32)}, folder / "model.safetensors")
    refused("tensor model.norm.bias is not supported")
    save_file({k: v for k, v in tensors.items() if "layers.2" not in k}, folder / "model.safetensors")
    refused("no tensor model.layers.2.input_layernorm.weight .9 missing")
    save_file({**tensors, "lm_head.weight": np.zeros((95, 48), np.float32)}, folder / "model.safetensors")
    refused(r"lm_head.weight has shape \(95, 48\), config.json asks for \(96, 48\)")
    (folder / "model.safetensors").write_bytes(b"no tensors at all")
    refused("model.safetensors is damaged")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").touch()
    refused("model.safetensors is missing; .*convert it to safetensors")
    (folder / "config.json").unlink()
    refused("config.json is missing")


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
    assert hf.find_folder("owner/name") == folder


def test_the_tokenizer_is_copied_and_its_special_tokens_named(tmp_path):
    from dsm_jax.tokenizer import load_tokenizer, train_sentencepiece

    text = ["one plus two is three, four plus five is nine"] * 20
    path = tmp_path / "tokenizer.model"
    ours = train_sentencepiece(text, path, vocab_size=300)
    model = load_hf(write_folder(tmp_path / "in"))
    save_hf(model, tmp_path / "out", tokenizer=path)
    copied = load_tokenizer(tmp_path / "out")
    assert copied.encode(text[0]) == ours.encode(text[0])
    entries = json.loads((tmp_path / "out/config.json").read_text())
    assert (entries["bos_token_id"], entries["eos_token_id"]) == (ours.bos_id, ours.eos_id)


@pytest.mark.parametrize("name", ["a/b..c", "runs/--x"])
def test_a_name_that_the_hub_refuses(name):
    for find in (hf.find_folder, hf.find_config):
        with pytest.raises(UserError, match=f"{name}: no such folder, and not a hub id"):
            find(name)


@pytest.mark.parametrize(
    "entries, message",
    [
        ([], "not a JSON object"),
        ({**ENTRIES, "hidden_size": "48"}, "hidden_size is '48'; it must be a whole number"),
        ({**ENTRIES, "num_attention_heads": 0}, "num_attention_heads is 0"),
        ({**ENTRIES, "rms_norm_eps": "1e-5"}, "rms_norm_eps is '1e-5'; it must be a number"),
        ({**ENTRIES, "rope_parameters": [1]}, "rope_parameters is .1.; it must be an object"),
        ({**ENTRIES, "rope_parameters": {"rope_theta": "500"}}, "rope_theta is '500'"),
        ({**ENTRIES, "tie_word_embeddings": "false"}, "tie_word_embeddings is 'false'"),
        ({**ENTRIES, "torch_dtype": ["float32"]}, "dtype .'float32'. is not supported"),
    ],
)
def test_a_config_json_of_wrong_types_is_named(tmp_path, entries, message):
    (tmp_path / "config.json").write_text(json.dumps(entries))
    with pytest.raises(UserError, match=f"{tmp_path}/config.json: {message}"):
        hf.find_config(tmp_path)


def test_null_entries_are_absent():
    assert config_from_hf({**ENTRIES, "initializer_range": None, "rope_scaling": None}) == config_from_hf(
        ENTRIES
    )


@pytest.mark.parametrize(
    "index", [[], {}, {"weight_map": []}, {"weight_map": {"lm_head.weight": 1}}], ids=str
)
def test_an_index_without_weight_map_is_named(tmp_path, index):
    (write_folder(tmp_path) / hf.INDEX).write_text(json.dumps(index))
    with pytest.raises(UserError, match=f"{hf.INDEX}: its weight_map"):
        load_hf(tmp_path)
