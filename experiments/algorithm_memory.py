"""The memory of GRPO against PPO with a critic as large as the policy: measured at tiny size, computed for the 7B.

`python experiments/compare_algorithms.py --memory` prints it. Not a script.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from small_model import TINY_MODEL

from dsm_jax.evaluate.report import markdown
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model.config import DEEPSEEK_MATH_7B, TINY, ModelConfig, param_count
from dsm_jax.model.decoder import Remat
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.memory import GB, Memory, grpo_memory
from dsm_jax.rl.paradigm.config import ParadigmTraining
from dsm_jax.rl.paradigm.loop import Paradigm
from dsm_jax.rl.paradigm.memory import held_bytes, measured_programs, ppo_memory

MB = 1e6
WIDTH = 128  # tokens of a row of the tiny model's micro-batch
MEASURED = (
    "",
    "state",
    "largest program",
    "its arguments",
    "temporaries",
    "outputs (of these in place)",
    "alive at once",
)
PARTS = ("parameters", "moments", "reference", "gradients", "activations")


class NoText:
    """Stands in for a tokenizer: programs are compiled from shapes, and nothing is encoded."""

    vocab_size, bos_id, eos_id, pad_id, fingerprint = TINY.vocab_size, 1, 2, 0, ""


def memory_report() -> str:
    """Both tables, as Markdown."""
    return f"{measured_report()}\n\n{computed_report()}"


def measured_report(model: ModelConfig = TINY) -> str:
    """Of the compiled programs of an update of the tiny preset, on one device; activations kept, and made again."""
    rows = TINY_MODEL.grpo.micro_batch_tokens // WIDTH
    lines = [
        (
            f"Measured: {param_count(model) / MB:.2f}M parameters in fp32, one device, micro-batches of {rows} rows x {WIDTH} "
            "tokens; MB. With remat full activations are made again in the backward pass."
        ),
        "",
    ]
    table, ratios = [list(MEASURED)], []
    remats: tuple[Remat, ...] = ("none", "full")
    for remat in remats:
        found = {name: _measured(name, model, remat, rows) for name in ("grpo", "ppo")}
        table += [one.cells for one in found.values()]
        state, peak = (
            getattr(found["ppo"], what) / getattr(found["grpo"], what) for what in ("state", "peak")
        )
        ratios.append(f"remat {remat}: state {state:.2f}, alive at once {peak:.2f}")
    return "\n".join([*lines, markdown(table), "", f"PPO / GRPO: {'; '.join(ratios)}"])


@dataclass(frozen=True)
class Measured:
    """Bytes of a method, and its row of the table."""

    state: int
    peak: int
    cells: list[str]


def _measured(method: str, model: ModelConfig, remat: Remat, rows: int) -> Measured:
    training = replace(TINY_MODEL.grpo, remat=remat)
    config = ParadigmTraining(training, critic=training.optimizer)
    paradigm = Paradigm(method, config, model, NoText(), single_device_mesh(), prompts=lambda draw: [])  # type: ignore[arg-type]
    state, programs = sum(held_bytes(paradigm).values()), measured_programs(paradigm, rows, WIDTH)
    largest = max(programs, key=lambda one: one.beyond)
    peak = state + largest.beyond
    outputs = f"{_mb(largest.outputs)} ({_mb(largest.aliased)})"
    sizes = [_mb(largest.arguments), _mb(largest.temporaries), outputs, _mb(peak)]
    return Measured(state, peak, [f"{method.upper()}, remat {remat}", _mb(state), largest.name, *sizes])


def computed_report(model: ModelConfig = DEEPSEEK_MATH_7B) -> str:
    """By the formulas of rl/memory.py, with the paper's numbers, all on one device."""
    training, mesh = GRPOTraining(), single_device_mesh()
    found = {
        "GRPO": grpo_memory(training, model, mesh),
        "PPO": ppo_memory(ParadigmTraining(training), model, mesh),
        "GRPO without a KL": grpo_memory(
            replace(training, loss=replace(training.loss, beta=0.0)), model, mesh
        ),
    }
    lines = [
        (
            f"Computed: {param_count(model) / GB:.2f}B parameters, fp32 master and AdamW, {model.dtype} compute, micro-batches of "
            f"{training.micro_batch_tokens:,} tokens, all on one device (fsdp=N divides all but the activations); GB."
        ),
        "",
        markdown(
            [
                ["", *PARTS, "held", "update", "rollout", "peak"],
                *([name, *_computed(memory)] for name, memory in found.items()),
            ]
        ),
    ]
    ratio = found["PPO"].peak / found["GRPO"].peak
    held = found["PPO"].held / found["GRPO"].held
    return "\n".join([*lines, "", f"PPO / GRPO: held {held:.2f}, peak {ratio:.2f}"])


def _computed(memory: Memory) -> list[str]:
    sizes = [getattr(memory, part) for part in PARTS]
    return [f"{size / GB:.1f}" for size in (*sizes, memory.held, memory.update, memory.rollout, memory.peak)]


def _mb(size: int) -> str:
    return f"{size / MB:.1f}"
