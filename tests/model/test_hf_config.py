"""config.json there and back, and what is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dsm_jax.errors import UserError
from dsm_jax.model.config import PRESETS, ModelConfig, RopeScaling
from dsm_jax.model.hf_config import config_from_hf, config_to_hf
from dsm_jax.model.hf_folder import find_config
from tests.model.hf_cases import CASES, GQA, LLAMA3


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
    entries = {k: v for k, v in GQA.items() if k not in ("rope_theta", "torch_dtype")}
    entries |= {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "dtype": "bfloat16"}
    config = config_from_hf(entries)
    assert (config.rope_theta, config.dtype) == (500.0, "bfloat16")


@pytest.mark.parametrize("config", PRESETS.values(), ids=PRESETS)
def test_every_preset_survives_config_json(config: ModelConfig):
    assert config_from_hf(json.loads(json.dumps(config_to_hf(config, config.dtype)))) == config


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"model_type": "gpt2"},
            "model_type 'gpt2' is not supported; take one of llama, mistral, qwen2, qwen3",
        ),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window is True"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types are .*sliding_attention"),
        ({"mlp_bias": True}, "mlp_bias is True"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "rope scaling of type 'dynamic'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rope scaling of type 'yarn'"),
        ({"rope_scaling": {"type": "linear"}}, "factor of its rotary positions is None"),
        ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "factor is 0.5"),
        (
            {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "partial_rotary_factor 0.5",
        ),
        ({"quantization_config": {"bits": 4}}, "quantization_config is"),
        ({"torch_dtype": "int8"}, "dtype 'int8'"),
        ({"head_dim": 15}, "head_dim 15 is odd"),
    ],
)
def test_what_the_decoder_does_not_compute_is_refused_by_name(change, message):
    with pytest.raises(UserError, match=message):
        config_from_hf({**GQA, **change})


@pytest.mark.parametrize("name", ["hidden_size", "vocab_size"])
def test_a_missing_entry_is_named(name):
    with pytest.raises(UserError, match=f"{name} is missing"):
        config_from_hf({k: v for k, v in GQA.items() if k != name})


@pytest.mark.parametrize("entries", CASES.values(), ids=CASES)
def test_every_family_survives_config_json(entries):
    config = config_from_hf(entries)
    written = json.loads(json.dumps(config_to_hf(config, config.dtype)))
    assert written["model_type"] == entries["model_type"] and config_from_hf(written) == config


def test_rope_scaling_of_transformers_4_and_5():
    wanted = RopeScaling("llama3", 4.0, 1.0, 4.0, 32)
    five = {k: v for k, v in GQA.items() if k != "rope_theta"} | {
        "rope_parameters": LLAMA3 | {"rope_theta": 500.0}
    }
    for entries in (GQA | {"rope_scaling": LLAMA3}, five):
        config = config_from_hf(entries)
        assert (config.rope_scaling, config.rope_theta) == (wanted, 500.0)


def test_a_model_that_transformers_has_no_name_for():
    with pytest.raises(UserError, match="qkv_bias and qk_norm"):
        config_to_hf(replace(PRESETS["tiny"], qkv_bias=True, qk_norm=True), "float32")


@pytest.mark.parametrize(
    "entries, message",
    [
        ([], "not a JSON object"),
        ({**GQA, "hidden_size": "64"}, "hidden_size is '64'; it must be a whole number"),
        ({**GQA, "num_attention_heads": 0}, "num_attention_heads is 0"),
        ({**GQA, "rms_norm_eps": "1e-5"}, "rms_norm_eps is '1e-5'; it must be a number"),
        ({**GQA, "rope_parameters": [1]}, "rope_parameters is .1.; it must be an object"),
        ({**GQA, "rope_parameters": {"rope_theta": "500"}}, "rope_theta of its rotary positions is '500'"),
        ({**GQA, "tie_word_embeddings": "false"}, "tie_word_embeddings is 'false'"),
        ({**GQA, "torch_dtype": ["float32"]}, "dtype .'float32'. is not supported"),
    ],
)
def test_a_config_json_of_wrong_types_is_named(tmp_path, entries, message):
    (tmp_path / "config.json").write_text(json.dumps(entries))
    with pytest.raises(UserError, match=f"{tmp_path}/config.json: {message}"):
        find_config(tmp_path)


def test_null_entries_are_absent():
    assert config_from_hf({**GQA, "initializer_range": None, "rope_scaling": None}) == config_from_hf(GQA)


def test_a_mistral_is_a_llama_as_far_as_its_window_reaches():
    entries = GQA | {"model_type": "mistral", "sliding_window": 40}
    assert config_from_hf(entries) == replace(config_from_hf(GQA), max_seq_len=40)
    assert config_from_hf(entries | {"sliding_window": None}) == config_from_hf(GQA)
    assert config_from_hf(entries | {"sliding_window": 4096}) == config_from_hf(GQA)
    assert config_from_hf(GQA | {"model_type": "qwen2", "sliding_window": 40}).max_seq_len == 64
    assert config_to_hf(config_from_hf(entries), "float32")["model_type"] == "llama"
