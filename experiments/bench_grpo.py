"""How fast a GRPO step is: CPU time, seconds of its phases, tokens a second, MFU, share of the bandwidth, memory, start.

    python experiments/bench_grpo.py --json FILE --peer trl --peer-python PATH/TO/PYTHON
    python experiments/bench_grpo.py --json FILE --preset 1m --peer tunix --peer-python PATH/TO/PYTHON
    python experiments/bench_grpo.py --json FILE --preset 4m --peer tunix --peer-python PATH/TO/PYTHON
    python experiments/bench_grpo.py --json FILE --preset deepseek_math_7b

A step is a user's: G completions of each prompt, a cheap Python reward, group-relative advantages, KL to a reference, one
AdamW update of every parameter, completions written to a file. Two workloads: `fixed`, every completion has
max_new_tokens; `geometric`, each place ends its row with the same chance, so that the mean is about a quarter of that and
nobody knows a length before it is drawn. The weights do this: random ones whose end of sequence has that chance, or none.
A peer (TRL's GRPOTrainer with generate() of transformers, or Tunix's GRPOLearner with its own sampler) runs in an
environment of its own on the same weights and prompts with its fastest settings (FASTEST), in alternation with us, each
pinned to as many cores as it has threads. That it does the same work is checked: log-probabilities of given completions
agree, and so does the number of tokens drawn (of geometric lengths, on average). Times are medians over the rounds;
compilation is apart.

mfu is that of the update: its arithmetic (the policy forward and backward, the reference forward; what is made again does
not count) over its time and the device's peak, for a CPU what a large matmul of the same worker reached. bandwidth_share
is that of the rollout, as bench_sampler.py has it. The floor is the update's arithmetic and what the rollout must compute
or read. phases, shares and the floor count CPU time on a CPU, whose cores others may share; tokens_per_s the time that
passed, over the whole step. first_step_s is from a process's start to the end of its first step, with its compilations
on the disk.
Left out on purpose: several devices, more than one update a rollout, LoRA, tools, slow rewards.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any, Literal

import numpy as np
from bench_grpo_work import EOS
from bench_sampler import ONE_MILLION, Lengths, Rates, clock_of, floor_of, rates_of
from bench_train import FOUR_MILLION
from bench_turns import Rounds, Worker, check_options, in_turns, plain, worker
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dsm_jax.cli import run_script
from dsm_jax.errors import UserError
from dsm_jax.model.config import DEEPSEEK_MATH_7B, SMOKE, ModelConfig
from dsm_jax.model.decoder import Remat
from dsm_jax.model.flops import flops_per_token
from dsm_jax.run import write_json
from dsm_jax.train.optimizer import OptimizerConfig

OURS = "dsm_jax"
WORKLOADS = ("fixed", "geometric")
PHASES = ("rollout", "rewards", "update")
STEPS_OF_PROMPTS = 16  # then the same prompts come again
SCORED = 8  # rows whose log-probabilities a peer's are compared with
SAME_LOGP = 1e-3  # nats that they may differ by
SAME_TOKENS = {
    "fixed": 0.03,
    "geometric": 0.25,
}  # share that a peer may draw more or less; bos is not counted
# What the peers were fastest with, and CPU seconds a step that they have been seen to take with fixed lengths.
FASTEST: dict[str, dict[str, Any]] = {
    "trl": {"peer_micro_batches": 4, "peer_compile": False},
    "tunix": {"peer_remat": "NONE", "peer_micro_batches": 1, "peer_reference_batches": 1},
}
SEEN = {("trl", "trl_1m"): 2.65, ("tunix", "1m"): 2.96, ("tunix", "4m"): 8.1}
# 1.07M parameters.
TRL_ONE_MILLION = replace(ONE_MILLION, vocab_size=98, n_kv_heads=4, tie_embeddings=False)


@dataclass(frozen=True)
class Bench:
    """Options of the benchmark."""

    preset: str
    model: ModelConfig
    prompts: int = 8  # of a step
    n: int = 8  # completions of each
    prompt: int = 32  # tokens
    max_new_tokens: int = 96  # of a completion; the mean of geometric lengths is about a quarter
    beta: float = 0.04
    optimizer: OptimizerConfig = OptimizerConfig(peak_lr=1e-6, schedule="constant", weight_decay=0.0)
    micro_batch_tokens: int = 512  # whose activations exist at once
    slots: int = 64  # rows that we decode at once
    remat: Remat = "none"  # what our backward pass makes again
    lengths: Literal["both", "fixed", "geometric"] = "both"
    threads: int = 1  # of each worker, on the CPU; 0: the accelerator
    matmul: int = 1024  # rows, columns and depth of the matmul that is the measure
    copy_bytes: int = 1 << 28  # of the array whose copy is the measure
    rounds: int = 5  # each measures every task once with every worker
    # the C library's settings: each worker's as its users have it (ours sets its own), or ours for both
    allocator: Literal["own", "same"] = "own"
    starts: bool = True  # whether to time a process's first step
    json: Path | None = None  # file for the numbers
    peer: Literal["", "trl", "tunix"] = ""  # who is measured beside us
    peer_python: Path = Path("python")  # of the peer's environment

    def __post_init__(self) -> None:
        for name in (
            "prompts",
            "max_new_tokens",
            "micro_batch_tokens",
            "slots",
            "matmul",
            "copy_bytes",
            "rounds",
        ):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise UserError(f"--{option} is {getattr(self, name)}; it must be at least 1")
        if self.n < 2:
            raise UserError(f"--n is {self.n}; a group needs at least 2 completions")
        room = self.model.max_seq_len - self.max_new_tokens
        if not 2 <= self.prompt <= room:
            raise UserError(
                f"--prompt is {self.prompt}; it must be at least 2 and at most {room}, which is what the model's "
                f"{self.model.max_seq_len} tokens leave"
            )
        if self.micro_batch_tokens < self.prompt + self.max_new_tokens:
            raise UserError(
                f"--micro-batch-tokens is {self.micro_batch_tokens}; the longest row has "
                f"{self.prompt + self.max_new_tokens}"
            )
        check_options(self)


def main(config: Bench) -> None:
    workloads = WORKLOADS if config.lengths == "both" else (config.lengths,)
    results = {name: measured(config, name) for name in workloads}
    show(config, results)
    if config.json:
        write_json(config.json, as_json(config, results))


def measured(config: Bench, name: str) -> dict[str, Any]:
    """A workload's numbers, the peer's among them."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        request = asked(config, name) | {"folder": f"{folder}/model" if config.peer or config.starts else ""}
        workers: dict[str, Worker] = {}
        scripts = {OURS: sys.executable} | ({config.peer: config.peer_python} if config.peer else {})
        for who, python in scripts.items():  # ours writes the weights that the peer reads
            script = f"bench_grpo_{'ours' if who == OURS else who}.py"
            started = worker(python, script, config.threads, allocator=config.allocator == "same")
            workers[who] = stack.enter_context(started)
            workers[who].ask(request)
        in_turns(workers, ("step",), 1)  # compiles
        warm = len(workers[OURS].ask({"task": "report"})["steps"])
        found = in_turns(workers, ("step",), config.rounds)
        reports = {who: one.ask({"task": "report"}) for who, one in workers.items()}
        measures = in_turns({OURS: workers[OURS]}, ("matmul", "copy"), config.rounds)[OURS]
        require_same_work(name, reports)
        result = summary(config, found, reports, rates_of(config, measures, reports[OURS]), warm)
        if config.starts:
            result["first_step_s"] = first_step_seconds(config, request)
        return result


def asked(config: Bench, workload: str) -> dict[str, Any]:
    """What every worker is told. Prompts begin with bos."""
    names = (
        "n",
        "max_new_tokens",
        "beta",
        "micro_batch_tokens",
        "slots",
        "remat",
        "threads",
        "matmul",
        "copy_bytes",
    )
    rng, vocab = np.random.default_rng(0), config.model.vocab_size
    prompts = rng.integers(EOS + 1, vocab, (STEPS_OF_PROMPTS * config.prompts, config.prompt))
    prompts[:, 0] = 0
    completions = rng.integers(EOS + 1, vocab, (SCORED, config.max_new_tokens))
    scored = {
        "prompts": prompts[np.arange(SCORED) % len(prompts)].tolist(),
        "completions": completions.tolist(),
    }
    return {name: getattr(config, name) for name in names} | {
        "model": plain(config.model),
        "optimizer": plain(config.optimizer),
        "prompts": prompts.tolist(),
        "prompts_per_step": config.prompts,
        "end_share": 1e-9 if workload == "fixed" else min(0.5, 4 / config.max_new_tokens),
        "scored": scored,
        "folder": "",
        **FASTEST.get(config.peer, {}),
    }


def first_step_seconds(config: Bench, request: Mapping[str, Any]) -> float:
    """From the start of a process to the end of its first step, with compilations and weights on the disk."""
    script = "bench_grpo_start.py"
    for _ in range(2):  # the first one compiles what measuring has not
        begin = time.perf_counter()
        with worker(sys.executable, script, config.threads, allocator=False) as one:
            one.ask(request)
            took = time.perf_counter() - begin
    return took


def require_same_work(workload: str, reports: Mapping[str, dict[str, Any]]) -> None:
    """AssertionError where a worker's log-probabilities or its number of tokens are not ours."""
    ours, drawn = np.array(reports[OURS]["scores"]), mean(reports[OURS]["text_tokens"])
    for name, report in reports.items():
        apart = np.abs(ours - np.array(report["scores"])).max()
        if not apart < SAME_LOGP:
            raise AssertionError(
                f"{name} computes something else: log-probabilities {apart:.2g} nats from ours"
            )
        theirs = mean(report["text_tokens"])
        if not abs(theirs - drawn) <= SAME_TOKENS[workload] * drawn:
            raise AssertionError(f"{name} draws something else: {theirs:.0f} tokens a step, ours {drawn:.0f}")


def summary(
    config: Bench, found: Mapping[str, Rounds], reports: Mapping[str, dict[str, Any]], rates: Rates, warm: int
) -> dict[str, Any]:
    """Medians of the steps after the first ones, and of ours that compiled nothing: of geometric lengths some still do."""
    report, clock = reports[OURS], 1 if config.threads else 0  # (seconds, CPU seconds)
    after = report["steps"][warm:]
    steps = [step for step in after if not step["compilations"]] or after
    times = {
        who: {key: median(one[key] for one in tasks["step"]) for key in ("seconds", "cpu_seconds")}
        for who, tasks in found.items()
    }
    times[OURS] = {
        key: median(step["took"][at] for step in steps) for at, key in enumerate(("seconds", "cpu_seconds"))
    }
    phases = {name: median(step["phases"][name][clock] for step in steps) for name in PHASES}
    phases["other"] = max(0.0, times[OURS][clock_of(config)] - sum(phases.values()))
    floors = [floor(config, step["lengths"], rates) for step in steps]
    least = {key: median(one[key] for one in floors) for key in floors[0]}
    tokens = mean(sum(map(sum, step["lengths"])) for step in steps)
    result = {
        "cpu_seconds_per_step": times[OURS]["cpu_seconds"],
        "seconds_per_step": times[OURS]["seconds"],
        "phases": phases,
        "tokens": tokens,
        "mean_length": tokens / config.prompts / config.n,
        "tokens_per_s": tokens / times[OURS]["seconds"],
        "mfu": least["update_flops"] / phases["update"] / (report["peak_flops"] or rates.matmul),
        "bandwidth_share": least["rollout_bytes"] / phases["rollout"] / rates.bandwidth,
        "floor": least | {"share": least["seconds"] / times[OURS][clock_of(config)]},
        "peak_bytes": report["peak_bytes"],
        "compilations": report["compilations"],
        "steps": len(after),
        "steps_that_compiled": sum(step["compilations"] > 0 for step in after),
        "matmul_flops_per_s": rates.matmul,
        "bandwidth": rates.bandwidth,
        "device": report["device"],
        "jax": report["jax"],
    }
    if config.peer:
        theirs = times[config.peer]["cpu_seconds"]
        result |= {"peer_cpu_seconds_per_step": theirs, "ratio": theirs / times[OURS]["cpu_seconds"]}
        result["ratio_of_all_steps"] = theirs / median(step["took"][1] for step in after)
        result["peer_seconds_per_step"] = times[config.peer]["seconds"]
        result["peer_text_tokens"] = mean(reports[config.peer]["text_tokens"])
    return result


def floor(config: Bench, rows: Lengths, rates: Rates) -> dict[str, float]:
    """The least that a step with these completions takes. The reference's forward pass is part of the update."""
    rollout = floor_of(config, rows, rates)
    texts = [config.prompt + length for group in rows for length in group]
    flops = sum(
        text * flops_per_token(config.model, text / 2, backward=backward)
        for text in texts
        for backward in (True, *([False] if config.beta else []))
    )
    return {
        "update_flops": flops,
        "update_seconds": flops / rates.matmul,
        "rollout_flops": rollout["flops"],
        "rollout_bytes": rollout["bytes"],
        "rollout_seconds": rollout["seconds"],
        "seconds": flops / rates.matmul + rollout["seconds"],
    }


def show(config: Bench, results: Mapping[str, dict[str, Any]]) -> None:
    console = Console()
    first = next(iter(results.values()))
    title = f"{config.prompts} x {config.n} completions, {config.threads or 'no'} thread(s) each, {first['device']}"
    table = Table("", box=SIMPLE_HEAD, title=title)
    columns = [column for name, one in results.items() for column in shown(config, name, one)]
    for header, _ in columns:
        table.add_column(header, justify="right")
    for measure in columns[0][1]:
        table.add_row(measure, *(numbers.get(measure, "") for _, numbers in columns))
    console.print(table)
    lines = [line for name, one in results.items() for line in beside(config, name, one)]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


def shown(config: Bench, name: str, one: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """The table's columns of a workload: ours, and the peer's."""
    ours = {
        "tokens": f"{one['tokens']:,.0f}",
        "CPU s a step": f"{one['cpu_seconds_per_step']:.3f}",
        **{f"  {phase}": f"{seconds:.3f}" for phase, seconds in one["phases"].items()},
        "tokens/s": f"{one['tokens_per_s']:,.0f}",
        "update, MFU": f"{one['mfu']:.0%}",
        "rollout, bandwidth": f"{one['bandwidth_share']:.0%}",
        "floor, share": f"{one['floor']['share']:.0%}",
    }
    columns = [(f"{name}\n{OURS}", ours)]
    if config.peer:
        columns.append(
            (f"{name}\n{config.peer}", {"CPU s a step": f"{one['peer_cpu_seconds_per_step']:.3f}"})
        )
    return columns


def beside(config: Bench, name: str, one: Mapping[str, Any]) -> list[str]:
    """What stands beside a workload's numbers: its floor, its start, and what the peer's say."""
    floor, rate, bandwidth = one["floor"], one["matmul_flops_per_s"] / 1e9, one["bandwidth"] / 1e9
    update = f"update {floor['update_seconds']:.3g} ({floor['update_flops'] / 1e9:.3g} GFLOP)"
    rollout = (
        f"rollout {floor['rollout_seconds']:.3g} ({floor['rollout_flops'] / 1e9:.3g} GFLOP, "
        f"{floor['rollout_bytes'] / 1e6:.3g} MB)"
    )
    lines = [
        f"{name}: the floor is {floor['seconds']:.3g} s: {update}, {rollout}, at {rate:,.0f} GFLOP/s and "
        + f"{bandwidth:,.1f} GB/s",
        f"{name}: {one['mean_length']:.1f} tokens a completion; {one['compilations']} compilations; peak memory "
        + f"{one['peak_bytes'] / 1e6:,.0f} MB",
    ]
    if config.starts:
        lines.append(
            f"{name}: first step {one['first_step_s']:.1f} s after the start, compilations on the disk"
        )
    if config.peer:
        lines.append(
            f"{name}: CPU time of {config.peer} over {OURS}: {one['ratio']:.2f}; {one['ratio_of_all_steps']:.2f} with the "
            f"{one['steps_that_compiled']} of our {one['steps']} steps that compiled"
        )
    if name == "fixed" and (seen := SEEN.get((config.peer, config.preset))):
        here = one["peer_cpu_seconds_per_step"]
        slow = ": over 25% slower here, so look at its settings" if here > 1.25 * seen else ""
        lines.append(f"{config.peer} here {here:.2f} CPU seconds a step; seen before: {seen}{slow}")
    return lines


def as_json(config: Bench, results: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The first workload's numbers by name, and every workload's under its own."""
    found = next(iter(results.values())) | dict(results) | {"config": plain(config)}
    if config.peer:
        seen = SEEN.get((config.peer, config.preset))
        found["peer"] = {
            "name": config.peer,
            "settings": FASTEST[config.peer],
            "seen_cpu_seconds_per_step": seen,
        }
    return found


# One question group, texts of 1,024 tokens: 28 GB of weights, 28 of moments, a reference, a decode copy, 32 of caches.
SEVEN_BILLION = Bench(
    "deepseek_math_7b",
    DEEPSEEK_MATH_7B,
    prompts=1,
    n=64,
    prompt=256,
    max_new_tokens=768,
    optimizer=OptimizerConfig(peak_lr=1e-6, schedule="constant", weight_decay=0.0, moments="bfloat16"),
    micro_batch_tokens=8192,
    remat="full",
    threads=0,
    matmul=8192,
    copy_bytes=1 << 32,
    rounds=2,
    starts=False,
)
PRESETS = {
    "trl_1m": Bench("trl_1m", TRL_ONE_MILLION, prompt=6, max_new_tokens=128, micro_batch_tokens=576),
    "1m": Bench("1m", ONE_MILLION),
    "4m": Bench("4m", FOUR_MILLION),
    "deepseek_math_7b": SEVEN_BILLION,
    "tiny": Bench(
        "tiny", SMOKE, prompts=2, n=2, prompt=8, max_new_tokens=12, micro_batch_tokens=64, slots=4, matmul=128,
        copy_bytes=1 << 20, rounds=1, starts=False,
    ),
}  # fmt: skip

if __name__ == "__main__":
    run_script(main, PRESETS)
