"""The shape of a decoder, its presets with their sources, and its parameter count.

A ModelConfig fixes the parameters and the arithmetic of a Llama-shaped decoder: pre-norm RMSNorm, rotary
positions, grouped-query attention, SwiGLU; as options what Qwen2 and Qwen3 add. A run chooses the rest: batch,
optimiser, mesh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dsm_jax.errors import UserError

SIZES = ("vocab_size", "d_model", "n_layers", "n_heads", "n_kv_heads", "head_dim", "d_ff", "max_seq_len")
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class RopeScaling:
    """How the rotary frequencies are stretched for sequences longer than those of pretraining.

    linear divides every frequency by `factor`. llama3 (Llama 3.1) divides those whose wavelength is above
    original_max_seq_len / low_freq_factor, keeps those below original_max_seq_len / high_freq_factor, and goes
    smoothly from one to the other between them.
    """

    kind: Literal["none", "linear", "llama3"] = "none"
    factor: float = 1.0
    low_freq_factor: float = 1.0  # of llama3 only, as the two below
    high_freq_factor: float = 4.0
    original_max_seq_len: int = 8192  # tokens

    def __post_init__(self) -> None:
        if not 1 <= self.factor < math.inf:
            raise UserError(f"model config: rope scaling's factor is {self.factor}; it must be at least 1")
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise UserError(
                f"model config: rope scaling's low_freq_factor {self.low_freq_factor} must be above 0 and below "
                f"high_freq_factor, {self.high_freq_factor}"
            )


# A layer's matrices: letters of their inputs and of their outputs. Query heads are grouped by their kv head.
PROJECTIONS = {
    "q": ("d", "kgh"),
    "k": ("d", "kh"),
    "v": ("d", "kh"),
    "o": ("kgh", "d"),
    "gate": ("d", "f"),
    "up": ("d", "f"),
    "down": ("f", "d"),
}


@dataclass(frozen=True)
class LoRA:
    """Low-rank updates of a layer's matrices (arXiv 2106.09685): W + alpha / rank * A B, where only A and B train."""

    rank: int = 0  # 0: none, every parameter trains
    alpha: float = 32.0  # the updates are multiplied by alpha / rank
    targets: tuple[str, ...] = tuple(PROJECTIONS)  # the matrices that get one

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise UserError(f"lora: rank is {self.rank}; it must be at least 0, and 0 is none")
        if not 0 < self.alpha < math.inf:
            raise UserError(f"lora: alpha is {self.alpha}; it must be a number above 0")
        wrong = [name for name in self.targets if name not in PROJECTIONS or self.targets.count(name) > 1]
        if wrong or not self.targets:
            raise UserError(
                f"lora: targets {wrong[0] if wrong else '()'}: use some of {', '.join(PROJECTIONS)}, each once"
            )


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a Llama-style decoder. Raises UserError when the numbers do not fit together."""

    vocab_size: int  # token ids, padding of the vocabulary included
    d_model: int  # width of the residual stream
    n_layers: int
    n_heads: int  # query heads
    n_kv_heads: int  # key and value heads; equal to n_heads for multi-head attention
    head_dim: int  # width of one head
    d_ff: int  # inner width of the SwiGLU block
    rope_theta: float = 10_000.0  # base of the rotary frequencies
    rope_scaling: RopeScaling = RopeScaling()
    rms_eps: float = 1e-6  # added to the mean square in RMSNorm
    max_seq_len: int = 4096  # longest sequence, in tokens
    tie_embeddings: bool = False  # the output matrix is the embedding, transposed
    qkv_bias: bool = False  # biases of queries, keys and values (Qwen2)
    qk_norm: bool = False  # RMSNorm of each head's query and key before the rotary positions (Qwen3)
    init_std: float = 0.02  # standard deviation of the initial matrices
    lora: LoRA = LoRA()
    dtype: str = "float32"  # of the matmuls: float32 or bfloat16; norms, softmax and logits stay float32

    def __post_init__(self) -> None:
        for name in SIZES:
            if getattr(self, name) < 1:
                raise UserError(f"model config: {name} is {getattr(self, name)}; it must be at least 1")
        for name in ("rope_theta", "rms_eps", "init_std"):
            if not 0 <= getattr(self, name) < math.inf or self.rope_theta == 0:
                raise UserError(f"model config: {name} is {getattr(self, name)}; it must be a number above 0")
        if self.n_heads % self.n_kv_heads:
            raise UserError(
                f"model config: n_heads {self.n_heads} is not a multiple of n_kv_heads {self.n_kv_heads}; "
                "change one of them"
            )
        if self.head_dim % 2:
            raise UserError(f"model config: head_dim {self.head_dim} is odd; rotary positions need pairs")
        if self.dtype not in DTYPES:
            raise UserError(f"model config: dtype {self.dtype!r} is unknown; take one of {', '.join(DTYPES)}")


# Two layers for tests of the machinery: learns nothing worth reading.
SMOKE = ModelConfig(
    vocab_size=512, d_model=64, n_layers=2, n_heads=4, n_kv_heads=4, head_dim=16, d_ff=176, max_seq_len=512,
    init_std=0.06,
)  # fmt: skip

# 0.94M parameters: the smallest shape seen to learn arithmetic in minutes on a CPU. init_std is 0.7 / sqrt(d):
# the 0.02 of wide models is too small for a narrow one.
TINY = ModelConfig(
    vocab_size=512, d_model=128, n_layers=4, n_heads=4, n_kv_heads=4, head_dim=32, d_ff=352, max_seq_len=512,
    init_std=0.06,
)  # fmt: skip

# DeepSeek-LLM 1.3B. The paper gives no shape: this is deepseek-coder-1.3b's config.json with DeepSeek-LLM's
# vocabulary and rope_theta; init_std from DeepSeek LLM (arXiv 2401.02954). It has 1.63B parameters, more than
# its name says, because of that vocabulary.
DEEPSEEK_1B = ModelConfig(
    vocab_size=102_400, d_model=2048, n_layers=24, n_heads=16, n_kv_heads=16, head_dim=128, d_ff=5504,
    rope_theta=10_000.0, rms_eps=1e-6, max_seq_len=4096, init_std=0.006, dtype="bfloat16",
)  # fmt: skip

# deepseek-ai/deepseek-math-7b-base, config.json; init_std from DeepSeek LLM (arXiv 2401.02954).
DEEPSEEK_MATH_7B = ModelConfig(
    vocab_size=102_400, d_model=4096, n_layers=30, n_heads=32, n_kv_heads=32, head_dim=128, d_ff=11_008,
    rope_theta=10_000.0, rms_eps=1e-6, max_seq_len=4096, init_std=0.006, dtype="bfloat16",
)  # fmt: skip

PRESETS = {
    "smoke": SMOKE,
    "tiny": TINY,
    "deepseek_1b": DEEPSEEK_1B,
    "deepseek_math_7b": DEEPSEEK_MATH_7B,
}


def param_count(config: ModelConfig) -> int:
    """Number of parameters, embeddings included, LoRA not: 6.91e9 for deepseek_math_7b."""
    embeddings = config.vocab_size * config.d_model * (1 if config.tie_embeddings else 2)
    attention = 2 * config.d_model * config.head_dim * (config.n_heads + config.n_kv_heads)  # q, o and k, v
    attention += config.qkv_bias * config.head_dim * (config.n_heads + 2 * config.n_kv_heads)
    attention += config.qk_norm * 2 * config.head_dim
    mlp = 3 * config.d_model * config.d_ff  # gate, up, down
    norms = 2 * config.d_model
    return embeddings + config.n_layers * (attention + mlp + norms) + config.d_model
