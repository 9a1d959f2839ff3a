"""GRPO of DeepSeekMath-Instruct 7B with the paper's numbers (section 4.2), or of any Llama-shaped model.

    python experiments/grpo_7b.py --mesh                      every device; DeepSeekMath-Instruct 7B from the hub
    python experiments/grpo_7b.py --mesh --init DIR_OR_HUB_ID
    python experiments/grpo_7b.py --mesh --preset tiny        1M parameters: a CPU does it within three minutes

Questions come from the problem generator, rewards from the grader. Before anything is downloaded or allocated,
the memory that the run needs is compared with what is there. Without --init, tiny and smoke first train a small
SFT model of their own (a few minutes, once: it stays in --cache). The same command goes on where a killed run
was. The run's folder holds config.json, metrics.jsonl, tb/, completions/, checkpoints/ and results.json.
Left out on purpose: benchmark files as prompts, evaluation on the way, and export.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from small_model import SMOKE_MODEL, TINY_MODEL, SmallModel, finetune, make_tokenizer, pretrain, questions

from dsm_jax.cli import run_script
from dsm_jax.data.problems import ProblemSet
from dsm_jax.data.prompts import COT_INSTRUCTION, problem_batch, prompt_text
from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model.config import DEEPSEEK_MATH_7B, ModelConfig
from dsm_jax.model.hf import Model, find_config, find_folder, load_hf, save_hf
from dsm_jax.processes import require_one_process
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.grpo import GRPO, run_grpo
from dsm_jax.rl.memory import require_memory
from dsm_jax.run import is_done, open_run, read_metrics, write_json
from dsm_jax.tokenizer import load_tokenizer

INSTRUCT_7B = "deepseek-ai/deepseek-math-7b-instruct"
SMALL = {"tiny": TINY_MODEL, "smoke": SMOKE_MODEL}  # what these presets start from without --init
SMALL_SEED = 0  # of that model, whatever --rng-seed: runs of several seeds start from the same one
AVERAGED = 10  # steps over which the first and the last reward are taken
REMEDY = (
    "give more devices, fewer --grpo.slots or --grpo.micro-batch-tokens, --grpo.lora.rank 16 or a smaller --init, or try "
    "--preset tiny"
)


@dataclass(frozen=True)
class GRPORun:
    """Options of a GRPO run."""

    preset: str = "paper"
    init: str | None = INSTRUCT_7B  # a Hugging Face folder, or a hub id; None: the preset's own small model
    instruction: str = COT_INSTRUCTION["en"]  # appended to every question
    grpo: GRPOTraining = GRPOTraining()
    # such as fsdp=8,tensor=4, or a name (gpu-8, v5p-128; README); bare or left out: every device on fsdp
    mesh: tuple[str, ...] = ()
    out: Path = Path("runs/grpo_7b")  # the run's folder
    cache: Path = Path("~/.cache/dsm_jax")  # where the small model of tiny and smoke is kept
    rng_seed: int = 0  # of problems and sampling


PAPER = GRPORun()
TINY = GRPORun(
    preset="tiny",
    init=None,
    instruction="",
    grpo=replace(TINY_MODEL.grpo, loop=replace(TINY_MODEL.grpo.loop, steps=70)),  # three minutes
    out=Path("runs/grpo_tiny"),
)
SMOKE = replace(
    TINY,
    preset="smoke",
    grpo=SMOKE_MODEL.grpo,
    out=Path("runs/grpo_smoke"),
)
PRESETS = {config.preset: config for config in (PAPER, TINY, SMOKE)}


def main(config: GRPORun) -> None:
    mesh = parse_mesh(config.mesh)
    require_one_process("grpo_7b.py")
    model = model_shape(config, mesh)
    check(config, model)
    require_memory(config.grpo, model, mesh, remedy=REMEDY)
    start = find_folder(config.init) if config.init else small_sft_folder(config)
    # Another folder or another mesh makes no other run; another recipe of the small model does.
    recorded = config.init or start.name
    open_run(config.out, replace(config, init=recorded, out=Path(), cache=Path(), mesh=()))
    if not is_done(config.out):
        if config.init is None:
            train_small_sft(SMALL[config.preset], start)
        train(config, model, mesh, start)
    results = collect(config.out)
    write_json(config.out / "results.json", results)
    print_results(results, config.out)


def model_shape(config: GRPORun, mesh: Mesh) -> ModelConfig:
    """The model's shape, its weights untouched. Large models compute in bf16 where the hardware does."""
    if config.init is None:
        if config.preset not in SMALL:
            raise UserError(
                f"--init: --preset {config.preset} has no model of its own; give a folder or a hub id"
            )
        return SMALL[config.preset].model
    shape = DEEPSEEK_MATH_7B if config.init == INSTRUCT_7B else find_config(config.init)
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return replace(shape, dtype="float32" if on_cpu else "bfloat16")


def check(config: GRPORun, model: ModelConfig) -> None:
    """What can be seen before any work."""
    length = config.grpo.max_completion_length
    if length >= model.max_seq_len:
        raise UserError(
            f"--grpo.max-completion-length {length} leaves no room for a prompt in the model's {model.max_seq_len} "
            "tokens; give fewer"
        )


def train(config: GRPORun, model: ModelConfig, mesh: Mesh, folder: Path) -> None:
    """GRPO from the model in `folder`, to the end."""
    tokenizer = load_tokenizer(folder, rows=model.vocab_size)
    problems = training_problems(config)
    grpo = GRPO(
        config.grpo,
        model,
        tokenizer,
        mesh,
        prompts=lambda step: [
            {"prompt": prompt_text(problem.question + config.instruction), "answer": problem.answer}
            for problem in problem_batch(problems, step, config.grpo.prompts_per_rollout)
        ],
        rng_seed=config.rng_seed,
    )
    run_grpo(grpo, lambda: load_hf(folder, mesh, dtype="float32").params, config.out)


def training_problems(config: GRPORun) -> ProblemSet:
    """Every family and level in English; for a small model those that it can learn, none of which SFT has seen."""
    if config.preset in SMALL:
        return questions(SMALL[config.preset], "grpo", config.rng_seed)
    return ProblemSet("train", seed=config.rng_seed)


def small_sft_folder(config: GRPORun) -> Path:
    """Where the cache keeps the small SFT model of this recipe.

    GRPO's numbers are part of it: SFT's stop rule samples with its slots and its longest completion.
    """
    recipe = hashlib.sha256(repr(SMALL[config.preset]).encode()).hexdigest()[:8]
    return config.cache.expanduser() / f"{config.preset}-sft-{recipe}"


def train_small_sft(small: SmallModel, folder: Path) -> None:
    """Makes `folder` a Hugging Face folder of the small SFT model, trained on the first device; once.

    Raises UserError while another process makes it.
    """
    if (folder / "config.json").exists():  # save_hf writes it last
        return
    with locked(folder):
        if (folder / "config.json").exists():  # made by another process just now
            return
        mesh = single_device_mesh()
        tokenizer = make_tokenizer(small, [], folder / "tokenizer", SMALL_SEED)
        base = pretrain(small, [], tokenizer, mesh, folder / "pretrain", SMALL_SEED)
        sft = finetune(small, base, tokenizer, mesh, folder / "sft", SMALL_SEED)
        save_hf(Model(small.model, sft), folder, folder / "tokenizer" / "tokenizer.model")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds folder/lock, which names this process. The system lets go of it when the process ends, killed or not."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"{folder}: process {file.read()} is making this model; start again when it has, or give another --cache"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def collect(out: Path) -> dict[str, Any]:
    """results.json, from the rows of metrics.jsonl; a row stands for the steps since the one before.

    With a row for every step the sums are exact, otherwise estimates.
    """
    rows = read_metrics(out / "metrics.jsonl")
    taken = max(1, min(AVERAGED, len(rows) // 2))
    steps = np.diff([0, *(row["step"] for row in rows)])

    def mean(name: str, part: list[dict[str, Any]]) -> float:
        return float(np.mean([row[name] for row in part]))

    def total(name: str) -> float:
        return sum(row[name] * count for row, count in zip(rows, steps, strict=True))

    seconds = {"rollout": total("seconds/rollout"), "update": total("seconds/update")}
    seconds["total"] = total("step_time")
    return {
        "steps": rows[-1]["step"],
        "logged_steps": len(rows),
        "averaged_steps": taken,
        "reward": {"first": mean("reward", rows[:taken]), "last": mean("reward", rows[-taken:])},
        "kl": mean("kl", rows[-taken:]),
        "tokens": int(total("num_tokens")),
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
    }


def print_results(results: dict[str, Any], out: Path) -> None:
    reward, steps, logged = results["reward"], results["steps"], results["logged_steps"]
    of = f"{steps} steps" if logged == steps else f"{logged} logged steps; {steps} in all"
    about = "" if logged == steps else "about "
    print(
        f"reward {reward['first']:.3f} -> {reward['last']:.3f} (first and last {results['averaged_steps']} of {of}), "
        f"KL {results['kl']:.4f}, {about}{results['tokens']} tokens in {results['seconds']['total']} s"
    )
    print(f"{out}: results.json, metrics.jsonl, completions/, checkpoints/")


if __name__ == "__main__":
    run_script(main, PRESETS)
