"""Continued pretraining: the paper's numbers (DeepSeekMath, sections 2.2.1 and 2.3).

experiments/pretrain_7b.py runs the first; that of the second is left out so far.
"""

from __future__ import annotations

from dsm_jax.train.lm import LMTraining
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.optimizer import OptimizerConfig

# Shares of the training tokens, section 2.3.
MIXTURE = {
    "math_corpus": 0.56,
    "algebraic_stack": 0.04,
    "arxiv": 0.10,
    "github_code": 0.20,
    "natural_language": 0.10,
}

# Section 2.3: 500B tokens in batches of 10M, context 4K (2,432 windows x 4,096 = 9.96M; meshes
# of up to 128 batch shards divide it; 50,000 updates).
DEEPSEEK_MATH_7B = LMTraining(
    loop=LoopConfig(steps=50_000, checkpoint_every=1_000),
    optimizer=OptimizerConfig(peak_lr=4.2e-4, schedule="multi_step", warmup_steps=2_000),
    batch_size=2_432,
    micro_batch_rows=128,  # our choice, as below
    window=4_096,
    remat="full",
)

# Section 2.2.1, the corpus experiments: 150B tokens in batches of 4M (960 windows x 4,096 = 3.93M;
# 37,500 updates).
CORPUS_1B = LMTraining(
    loop=LoopConfig(steps=37_500, checkpoint_every=1_000),
    optimizer=OptimizerConfig(peak_lr=5.3e-4, schedule="multi_step", warmup_steps=2_000),
    batch_size=960,
    micro_batch_rows=64,
    window=4_096,
    remat="full",
)
