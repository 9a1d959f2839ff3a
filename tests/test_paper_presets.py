"""Every preset that carries the paper's name, held against the paper's numbers.

The numbers stand here as facts, copied from the papers and the released configuration, never from our code:
DeepSeekMath (arXiv 2402.03300), DeepSeek LLM (arXiv 2401.02954), deepseek-math-7b-base's config.json.
"""

from __future__ import annotations

import pytest

from dsm_jax.errors import UserError
from dsm_jax.model.config import PRESETS, ModelConfig, param_count
from dsm_jax.rl.objectives import GRPOConfig

# deepseek-ai/deepseek-math-7b-base, config.json; init_std: DeepSeek LLM, section 2
MODEL_7B = {
    "vocab_size": 102_400,
    "d_model": 4096,
    "n_layers": 30,
    "n_heads": 32,
    "n_kv_heads": 32,
    "head_dim": 128,
    "d_ff": 11_008,
    "rope_theta": 10_000.0,
    "rms_eps": 1e-6,
    "max_seq_len": 4096,
    "tie_embeddings": False,
    "init_std": 0.006,
    "dtype": "bfloat16",
}

# DeepSeek-LLM 1.3B: the paper gives no shape; deepseek-coder-1.3b's, with DeepSeek LLM's vocabulary and theta
MODEL_1B = {
    **MODEL_7B,
    "d_model": 2048,
    "n_layers": 24,
    "n_heads": 16,
    "n_kv_heads": 16,
    "d_ff": 5504,
}

# DeepSeekMath, section 2.2.1 and DeepSeek LLM, table 2: common to both pre-trainings
SCHEDULE = {
    "warmup_steps": 2000,
    "decays": ((0.8, 0.316), (0.9, 0.1)),  # from this share of the steps on, this share of the peak rate
    "betas": (0.9, 0.95),
    "weight_decay": 0.1,
    "seq_len": 4096,
}
PRETRAIN_7B = {
    **SCHEDULE,
    "learning_rate": 4.2e-4,
    "steps": 50_000,
    "batch_tokens": 10_000_000,
}  # section 2.3
PRETRAIN_1B = {
    **SCHEDULE,
    "learning_rate": 5.3e-4,
    "steps": 37_500,
    "batch_tokens": 4_000_000,
}  # section 2.2.1

# section 2.3: shares of the 500B tokens
MIXTURE_7B = {"deepseekmath": 0.56, "algebraic_stack": 0.04, "arxiv": 0.10, "code": 0.20, "language": 0.10}

# section 3.1: a constant rate
SFT_7B = {"learning_rate": 5e-5, "steps": 500, "batch_size": 256, "seq_len": 4096, "warmup_steps": 0}

# section 4.2; a step's 1,024 outputs are 16 questions
GRPO_LOSS = {"beta": 0.04}
GRPO_7B = {
    "learning_rate": 1e-6,
    "num_generations": 64,
    "max_completion_length": 1024,
    "outputs_per_step": 1024,
    "num_iterations": 1,
}

# section 2.1
FASTTEXT = {"dim": 256, "lr": 0.1, "wordNgrams": 3, "minCount": 3, "epoch": 3}
MINING = {"positives": 500_000, "negatives": 500_000, "iterations": 4, "domain_share": 0.10}


def assert_facts(config: object, facts: dict) -> None:
    """Each fact equals the attribute of that name."""
    assert {name: getattr(config, name) for name in facts} == facts


@pytest.mark.parametrize(
    "config, facts",
    [
        pytest.param(PRESETS["deepseek_math_7b"], MODEL_7B, id="model 7B"),
        pytest.param(PRESETS["deepseek_1b"], MODEL_1B, id="model 1.3B"),
        pytest.param(GRPOConfig(), GRPO_LOSS, id="GRPO loss"),
    ],
)
def test_preset_holds_the_papers_numbers(config, facts):
    assert_facts(config, facts)


def test_the_facts_agree_with_the_papers_totals():
    """500B tokens at 7B and 150B at 1.3B; 16 questions a step; shares of the mixture that are a whole."""
    assert PRETRAIN_7B["steps"] * PRETRAIN_7B["batch_tokens"] == 500e9
    assert PRETRAIN_1B["steps"] * PRETRAIN_1B["batch_tokens"] == 150e9
    assert GRPO_7B["outputs_per_step"] / GRPO_7B["num_generations"] == 16
    assert sum(MIXTURE_7B.values()) == pytest.approx(1.0)


def test_parameter_counts():
    assert param_count(PRESETS["deepseek_math_7b"]) == 6_910_365_696
    assert round(param_count(PRESETS["deepseek_math_7b"]) / 1e9, 2) == 6.91
    assert param_count(PRESETS["tiny"]) == 935_040


@pytest.mark.parametrize(
    "option", [{"n_kv_heads": 3}, {"head_dim": 15}, {"dtype": "float16"}, {"n_layers": 0}], ids=str
)
def test_a_shape_that_does_not_fit_is_refused(option):
    shape = {name: getattr(PRESETS["smoke"], name) for name in MODEL_7B}
    with pytest.raises(UserError, match=next(iter(option))):
        ModelConfig(**{**shape, **option})
