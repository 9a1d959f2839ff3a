"""Every preset that carries the paper's name, held against the paper's numbers.

The numbers stand here as facts, copied from the papers and the released configuration, never from our code:
DeepSeekMath (arXiv 2402.03300), DeepSeek LLM (arXiv 2401.02954), deepseek-math-7b-base's config.json.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from dsm_jax.errors import UserError
from dsm_jax.mine.config import PRESETS as MINE_PRESETS
from dsm_jax.mine.corpus import decontaminate
from dsm_jax.model.config import PRESETS, ModelConfig, param_count
from dsm_jax.rl.config import GRPOLoop, GRPOOptimizer, GRPOTraining
from dsm_jax.rl.objectives import GRPOConfig
from dsm_jax.rl.shepherd.config import Shepherd
from dsm_jax.train import pretrain, sft
from dsm_jax.train.optimizer import make_schedule

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

# DeepSeekMath, section 2.2.1, common to both pre-trainings; clipping from DeepSeek LLM, section 2
ADAMW = {"b1": 0.9, "b2": 0.95, "weight_decay": 0.1, "clip_norm": 1.0, "warmup_steps": 2000}
PRETRAIN_7B = {"peak_lr": 4.2e-4, "steps": 50_000, "batch_tokens": 10e6, "window": 4096}  # section 2.3
PRETRAIN_1B = {"peak_lr": 5.3e-4, "steps": 37_500, "batch_tokens": 4e6, "window": 4096}  # section 2.2.1
DECAY = {0.79: 1.0, 0.8: 0.316, 0.89: 0.316, 0.9: 0.1, 0.99: 0.1}  # share of the steps -> of the peak

# section 2.3: shares of the 500B tokens
MIXTURE_7B = {
    "math_corpus": 0.56,
    "algebraic_stack": 0.04,
    "arxiv": 0.10,
    "github_code": 0.20,
    "natural_language": 0.10,
}

# section 3.1
SFT_7B = {"batch_size": 256, "window": 4096}
SFT_7B_OPTIMIZER = {"peak_lr": 5e-5, "schedule": "constant"}
SFT_7B_STEPS = 500

# section 4.2: 1,024 outputs a step, one update each; 144K questions / 16 = 9,000 steps an epoch
GRPO_LOSS = {"beta": 0.04}
GRPO_7B = {"num_generations": 64, "max_completion_length": 1024}
GRPO_7B_LEARNING_RATE = 1e-6
GRPO_7B_OUTPUTS = 1024

# Math-Shepherd (arXiv 2312.08935), sections 3.3 and 4.1: 15 solutions of each problem, 8 completions of a step, hard labels
MATH_SHEPHERD = {"solutions": 15, "n": 8, "estimate": "hard", "search": "every"}
# section 4.2: the reward model's; one epoch is Math-Shepherd's (arXiv 2312.08935)
REWARD_MODEL_LEARNING_RATE = 2e-5
REWARD_MODEL_EPOCHS = 1.0

# section 2.1
FASTTEXT = {"dim": 256, "lr": 0.1, "word_ngrams": 3, "min_count": 3, "epoch": 3}
MINING = {"max_seed_pages": 500_000, "iterations": 4, "stop_share": 0.98, "domain_share": 0.10}
# The negatives are random pages; no share of the crawl, no minimum of pages and no rule on words is named.
MINING |= {"negatives_by": "page", "keep_share": 1.0, "domain_min_pages": 1, "grams_need_words": False}
KEPT_TOKENS = (40e9, 89e9, 120.2e9)  # iteration 1 (section 2.1), 2 (section 5.1), the final corpus (table 1)
DECONTAMINATION = (10, 3)  # grams: of the sliding window, of the shortest text that is matched whole


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


@pytest.mark.parametrize(
    "training, facts",
    [
        pytest.param(pretrain.DEEPSEEK_MATH_7B, PRETRAIN_7B, id="7B"),
        pytest.param(pretrain.CORPUS_1B, PRETRAIN_1B, id="1.3B"),
    ],
)
def test_pretraining_holds_the_papers_numbers(training, facts):
    assert_facts(training.optimizer, ADAMW)
    assert training.optimizer.peak_lr == facts["peak_lr"]
    assert training.window == facts["window"]
    assert training.loop.steps == facts["steps"]
    assert training.batch_size * training.window == pytest.approx(facts["batch_tokens"], rel=0.05)
    schedule = make_schedule(training.optimizer, facts["steps"])
    assert float(schedule(1999)) == pytest.approx(facts["peak_lr"])
    assert float(schedule(999)) == pytest.approx(facts["peak_lr"] / 2)
    shares = {at: float(schedule(at * facts["steps"])) / facts["peak_lr"] for at in DECAY}
    assert shares == pytest.approx(DECAY)


def test_the_mixture_holds_the_papers_shares():
    assert pretrain.MIXTURE == MIXTURE_7B
    assert sum(MIXTURE_7B.values()) == pytest.approx(1.0)


def test_sft_holds_the_papers_numbers():
    assert_facts(sft.DEEPSEEK_MATH_7B, SFT_7B)
    assert_facts(sft.DEEPSEEK_MATH_7B.optimizer, SFT_7B_OPTIMIZER)
    assert sft.DEEPSEEK_MATH_7B.loop.steps == SFT_7B_STEPS
    schedule = make_schedule(sft.DEEPSEEK_MATH_7B.optimizer, SFT_7B_STEPS)
    assert [float(schedule(step)) for step in (0, 1, 250, 499)] == pytest.approx([5e-5] * 4)


def test_grpo_holds_the_papers_numbers(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "experiments"))
    from grpo_7b import INSTRUCT_7B
    from grpo_7b import PRESETS as GRPO_PRESETS

    paper = GRPO_PRESETS["paper"]
    assert paper.init == INSTRUCT_7B == "deepseek-ai/deepseek-math-7b-instruct"
    grpo = paper.grpo
    assert_facts(grpo, GRPO_7B)
    assert_facts(grpo.loss, GRPO_LOSS)
    assert grpo.optimizer.peak_lr == GRPO_7B_LEARNING_RATE
    assert grpo.batch_size == GRPO_7B_OUTPUTS
    assert grpo.loop.steps * grpo.prompts_per_rollout == 144_000


def test_labelling_holds_the_papers_numbers(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "experiments"))
    from label_steps_7b import PRESETS as LABEL_PRESETS

    run = LABEL_PRESETS["math_shepherd"]
    assert_facts(run, MATH_SHEPHERD)
    assert_facts(Shepherd(), MATH_SHEPHERD)
    assert run.generator == "deepseek-ai/deepseek-math-7b-instruct" and run.completer is None


def test_the_reward_model_holds_the_papers_numbers(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "experiments"))
    from reward_model_7b import PRESETS as REWARD_MODEL_PRESETS

    paper = REWARD_MODEL_PRESETS["paper"]
    assert (paper.init, paper.kind) == ("deepseek-ai/deepseek-math-7b-base", "process")
    assert paper.training.optimizer.peak_lr == REWARD_MODEL_LEARNING_RATE
    assert paper.epochs == REWARD_MODEL_EPOCHS


def test_one_number_of_grpo_s_loop_or_optimiser_changes_no_other():
    run = GRPOTraining(loop=GRPOLoop(steps=20), optimizer=GRPOOptimizer(peak_lr=1e-4))
    assert replace(run.loop, steps=9_000) == GRPOTraining().loop
    assert replace(run.optimizer, peak_lr=1e-6) == GRPOTraining().optimizer
    assert (run.optimizer.weight_decay, run.optimizer.schedule, run.loop.log_every) == (0.0, "constant", 1)


def test_mining_holds_the_papers_numbers():
    config = MINE_PRESETS["paper"]
    assert_facts(config, MINING)
    assert_facts(config.classifier, FASTTEXT)
    assert config.keep_tokens == KEPT_TOKENS
    assert tuple(config.budget(iteration, 10**13) for iteration in (1, 2, 3, 4)) == (*KEPT_TOKENS, 120.2e9)
    assert (decontaminate.LONG, decontaminate.SHORT) == DECONTAMINATION


def test_parameter_counts():
    assert param_count(PRESETS["deepseek_math_7b"]) == 6_910_365_696
    assert round(param_count(PRESETS["deepseek_math_7b"]) / 1e9, 2) == 6.91
    assert round(param_count(PRESETS["deepseek_1b"]) / 1e9, 2) == 1.63
    assert param_count(PRESETS["tiny"]) == 935_040


@pytest.mark.parametrize(
    "option", [{"n_kv_heads": 3}, {"head_dim": 15}, {"dtype": "float16"}, {"n_layers": 0}], ids=str
)
def test_a_shape_that_does_not_fit_is_refused(option):
    shape = {name: getattr(PRESETS["smoke"], name) for name in MODEL_7B}
    with pytest.raises(UserError, match=next(iter(option))):
        ModelConfig(**{**shape, **option})


def test_decisions_name_files_that_exist():
    root = Path(__file__).parents[1]
    named = set(re.findall(r"`([\w/]+\.py)`", (root / "docs" / "decisions.md").read_text(encoding="utf-8")))
    assert len(named) > 10
    assert [
        name for name in named if not (root / name).exists() and not (root / "dsm_jax" / name).exists()
    ] == []
