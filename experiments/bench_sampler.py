"""How fast the sampler draws: tokens a second, CPU time, share of the bandwidth, prefill, compilations, memory, idle slots.

    python experiments/bench_sampler.py --json FILE
    python experiments/bench_sampler.py --json FILE --preset 4m --peer tunix --peer-python PATH/TO/PYTHON
    python experiments/bench_sampler.py --json FILE --preset deepseek_math_7b

Two workloads, each one call of Sampler.generate, its prefill included: `fixed`, as many rows as there are slots, all of the
same length; `geometric`, several times as many through the queue, of about geometric lengths. There so many tokens of the
vocabulary end a row that an untrained model draws one every max_new_tokens / 4 tokens: nobody knows a row's length before,
as in a rollout, and it is the same in every run. (Were lengths asked for by max_new_tokens, the sampler could seat the
longest rows first.) Tokens counted are those up to each row's end.
A peer (Tunix's Sampler, or generate() of transformers) runs in an environment of its own on the same weights and prompts
with its fastest settings (FASTEST), in alternation with us, each pinned to as many cores as it has threads. Of the
geometric rows it draws as many tokens as we did, in batches of as many rows as there are slots, each as long as its longest
row and told so: it looks for no end, and is compiled for each batch's length. That it does the same work is checked: greedy
tokens and their log-probabilities agree. Ours records log-probabilities of every token, the peer none. Times are medians
over the rounds; compilation is apart.

bandwidth_share is the bytes that have to be read over the time and the bandwidth: weights once a step, the live rows' keys
and values once a step, a prompt that rows share once for all of them; slots are refilled at once. The bandwidth is the
device's as its maker states it, on a CPU what a copy in place of the same worker reached; copy_share is over that copy everywhere.
The floor has the arithmetic beside it, at the rate of one large matmul of the same worker. Shares count CPU time on a CPU,
whose cores others may share, and tokens_per_s the time that passed.
prefill_tokens_per_s is of a call that draws one token of each prompt: its one step is counted in.
warm_start_seconds is from a process's start to its first token of a small model, with its compilations on the disk.
Left out on purpose: several devices, top-k and top-p, stop strings, tools.
"""

from __future__ import annotations

import heapq
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
from bench_train import FOUR_MILLION
from bench_turns import Rounds, Worker, beside_seen, check_options, in_turns, plain, worker
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dsm_jax.cli import run_script
from dsm_jax.errors import UserError
from dsm_jax.model.config import DEEPSEEK_MATH_7B, SMOKE, ModelConfig, param_count
from dsm_jax.model.flops import flops_per_token
from dsm_jax.run import write_json

OURS = "dsm_jax"
WORKLOADS = ("fixed", "geometric")
GREEDY = 8  # tokens of each prompt that a peer's are compared with
SAME_LOGP = 1e-3  # nats that their log-probabilities may differ by
SAME_SHARE = 0.75  # of the prompts that must agree: near-ties excuse the rest
# What the peers were fastest with, and tokens a second that they have been seen to reach on 2 cores.
FASTEST: dict[str, dict[str, Any]] = {
    "tunix": {"peer_logprobs": False},
    "transformers": {"peer_cache": "dynamic"},
}
SEEN = {("tunix", "1m"): 13_200, ("tunix", "4m"): 5_800}
# 1.02M parameters.
ONE_MILLION = replace(FOUR_MILLION, vocab_size=256, d_model=128, d_ff=512, head_dim=32, init_std=0.06)


@dataclass(frozen=True)
class Bench:
    """Options of the benchmark."""

    preset: str
    model: ModelConfig
    prompts: int = 8  # of the fixed workload
    queue_prompts: int = 32  # of the geometric workload
    n: int = 8  # completions of each
    prompt: int = 32  # tokens
    max_new_tokens: int = 96  # of a completion; the mean of geometric lengths is a quarter
    slots: int = 64  # rows that are decoded at once; the peer's batch
    threads: int = 1  # of each worker, on the CPU; 0: the accelerator
    matmul: int = 1024  # rows, columns and depth of the matmul that is the measure
    copy_bytes: int = 1 << 28  # of the array whose copy is the measure
    rounds: int = 5  # each measures every task once with every worker
    # the C library's settings: each worker's as its users have it (ours sets its own), or ours for both
    allocator: Literal["own", "same"] = "own"
    # whether to time a process's start; without compilations on the disk it takes a while
    starts: bool = True
    json: Path | None = None  # file for the numbers
    peer: Literal["", "transformers", "tunix"] = ""  # who is measured beside us
    peer_python: Path = Path("python")  # of the peer's environment

    def __post_init__(self) -> None:
        sizes = ("prompts", "queue_prompts", "n", "max_new_tokens", "slots", "matmul", "copy_bytes", "rounds")
        for name in sizes:
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise UserError(f"--{option} is {getattr(self, name)}; it must be at least 1")
        room = self.model.max_seq_len - max(self.max_new_tokens, GREEDY)
        if not 2 <= self.prompt <= room:
            raise UserError(
                f"--prompt is {self.prompt}; it must be at least 2 and at most {room}, which is what the model's "
                f"{self.model.max_seq_len} tokens leave"
            )
        check_options(self)


Lengths = Sequence[Sequence[int]]  # of each prompt's completions, in tokens


def main(config: Bench) -> None:
    starts = start_seconds(config) if config.starts else {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        workers = start(config, Path(folder), stack)
        found = in_turns(workers, WORKLOADS, config.rounds)
        reports = {name: one.ask({"task": "report"}) for name, one in workers.items()}
        measures = in_turns({OURS: workers[OURS]}, ("matmul", "copy", "prefill"), config.rounds)[OURS]
    require_same_work(reports)
    rates = rates_of(config, measures, reports[OURS])
    results = {name: summary(config, name, found, rates, reports[OURS]) for name in WORKLOADS}
    shared = shared_numbers(config, measures, rates, reports[OURS]) | starts
    show(config, results, shared)
    if config.json:
        write_json(config.json, as_json(config, results, shared))


def start(config: Bench, folder: Path, stack: ExitStack) -> dict[str, Worker]:
    """The workers, each with its model built and its programs compiled. Ours writes the weights that the peer reads, and
    says how long the rows are."""
    workers: dict[str, Worker] = {}

    def begin(name: str, python: str | Path, request: Mapping[str, Any]) -> None:
        script = f"bench_sampler_{'ours' if name == OURS else name}.py"
        started = worker(python, script, config.threads, allocator=config.allocator == "same")
        workers[name] = stack.enter_context(started)
        workers[name].ask(request)
        in_turns({name: workers[name]}, WORKLOADS, 1)

    request = asked(config, config.model) | {"folder": str(folder) if config.peer else ""}
    begin(OURS, sys.executable, request)
    if config.peer:
        usage = workers[OURS].ask({"task": "report"})["usage"]
        static = {name: batches(usage[name]["lengths"], config.slots) for name in WORKLOADS}
        begin(config.peer, config.peer_python, request | {"batches": static} | FASTEST[config.peer])
    return workers


def asked(config: Bench, model: ModelConfig) -> dict[str, Any]:
    """What every worker is told. Prompts begin with an id of their own, as with a bos."""
    names = ("slots", "max_new_tokens", "threads", "matmul", "copy_bytes")
    shape = (max(config.prompts, config.queue_prompts), config.prompt)
    prompts = np.random.default_rng(0).integers(1, model.vocab_size, shape)
    prompts[:, 0] = 0
    rows = {"n": config.n, "max_new_tokens": config.max_new_tokens}
    ends = min(model.vocab_size - 1, round(4 * model.vocab_size / config.max_new_tokens))
    stops = list(range(model.vocab_size - ends, model.vocab_size))
    return {name: getattr(config, name) for name in names} | {
        "model": plain(model),
        "prompts": prompts.tolist(),
        "workloads": {
            "fixed": rows | {"prompts": config.prompts},
            "geometric": rows | {"prompts": config.queue_prompts, "stop_token_ids": stops},
        },
        "greedy": GREEDY,
        "folder": "",
    }


def batches(rows: Lengths, slots: int) -> list[dict[str, Any]]:
    """What a static batch makes of the rows: so many at a time, each batch as long as its longest."""
    flat = [(prompt, length) for prompt, group in enumerate(rows) for length in group]
    parts = [flat[at : at + slots] for at in range(0, len(flat), slots)]
    return [
        {"rows": [prompt for prompt, _ in part], "steps": max(length for _, length in part)} for part in parts
    ]


def start_seconds(config: Bench) -> dict[str, float]:
    """From the start of a process to its first token: without compilations on the disk, and with them."""
    small = asked(replace(config, prompts=1, queue_prompts=1, prompt=8, slots=1), SMOKE)
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        env = {"JAX_COMPILATION_CACHE_DIR": cache}
        for name in ("cold_start_seconds", "warm_start_seconds"):
            begin = time.perf_counter()
            script = "bench_sampler_start.py"
            with worker(sys.executable, script, config.threads, allocator=False, env=env) as one:
                one.ask(small)
                found[name] = time.perf_counter() - begin
    return found


def require_same_work(reports: Mapping[str, dict[str, Any]]) -> None:
    """AssertionError where too few of a worker's greedy completions are ours."""
    tokens, logps = (np.array(reports[OURS][name]) for name in ("greedy", "logps"))
    for name, report in reports.items():
        near = np.abs(logps - np.array(report["logps"])) < SAME_LOGP
        same = ((tokens == np.array(report["greedy"])) & near).all(axis=1).mean()
        if not same >= SAME_SHARE:
            raise AssertionError(
                f"{name} computes something else: {same:.0%} of its greedy completions are ours"
            )


@dataclass(frozen=True)
class Rates:
    """What the device does in a second."""

    matmul: float  # FLOP, one large matmul
    copy: float  # bytes read and written by a copy
    bandwidth: float  # bytes that its memory moves, as its maker states it; on a CPU the copy's


def rates_of(config: Bench, measures: Rounds, report: Mapping[str, Any]) -> Rates:
    times = {task: median(one[clock_of(config)] for one in rounds) for task, rounds in measures.items()}
    copy = 2 * config.copy_bytes / times["copy"]
    return Rates(2 * config.matmul**3 / times["matmul"], copy, report["peak_bandwidth"] or copy)


def clock_of(config: Bench) -> str:
    """What shares are measured by: on cores that others may share, CPU time."""
    return "cpu_seconds" if config.threads else "seconds"


def shared_numbers(
    config: Bench, measures: Rounds, rates: Rates, report: Mapping[str, Any]
) -> dict[str, Any]:
    """Our worker's, of no workload alone."""
    tokens = max(config.prompts, config.queue_prompts) * config.prompt
    return {
        "prefill_tokens_per_s": tokens / median(one["seconds"] for one in measures["prefill"]),
        "peak_bytes": report["peak_bytes"],
        "matmul_flops_per_s": rates.matmul,
        "copy_bandwidth": rates.copy,
        "bandwidth": rates.bandwidth,
        "device": report["device"],
        "jax": report["jax"],
    }


def summary(
    config: Bench, name: str, found: Mapping[str, Rounds], rates: Rates, report: Mapping[str, Any]
) -> dict[str, Any]:
    """A workload's numbers, the peer's among them."""
    usage = dict(report["usage"][name])
    rows = usage.pop("lengths")
    tokens = sum(map(sum, rows))
    times = {
        who: {key: median(one[key] for one in tasks[name]) for key in ("seconds", "cpu_seconds")}
        for who, tasks in found.items()
    }
    floor, took = floor_of(config, rows, rates), times[OURS][clock_of(config)]
    result = usage | {
        "tokens": tokens,
        "mean_length": tokens / sum(map(len, rows)),
        "tokens_per_s": tokens / times[OURS]["seconds"],
        **times[OURS],
        "bandwidth_share": floor["bytes"] / took / rates.bandwidth,
        "copy_share": floor["bytes"] / took / rates.copy,
        "floor": floor | {"share": floor["seconds"] / took},
    }
    if config.peer:
        theirs = times[config.peer]
        result |= {
            "peer_tokens_per_s": tokens / theirs["seconds"],
            "peer_cpu_seconds": theirs["cpu_seconds"],
            "ratio": theirs["cpu_seconds"] / times[OURS]["cpu_seconds"],
        }
    return result


def floor_of(config: Bench, rows: Lengths, rates: Rates) -> dict[str, float]:
    """The least that drawing these rows takes: steps, bytes read, arithmetic (that of the prompts too), and seconds of
    whichever is longer."""
    model = config.model
    steps, places = schedule(rows, config.slots, config.prompt)
    number = 2 if model.dtype == "bfloat16" else 4  # bytes
    embedding = (
        0 if model.tie_embeddings else model.vocab_size * model.d_model
    )  # of which a step reads its rows
    place = 2 * model.n_layers * model.n_kv_heads * model.head_dim
    size = number * (steps * (param_count(model) - embedding) + places * place)
    drawn = [length for group in rows for length in group]
    seen = sum(length * (config.prompt + (length - 1) / 2) for length in drawn) / sum(drawn)
    head = 2 * model.d_model * model.vocab_size
    prefill = len(rows) * config.prompt * (flops_per_token(model, config.prompt / 2) - head)
    flops = sum(drawn) * flops_per_token(model, seen) + prefill
    return {
        "steps": steps,
        "bytes": size,
        "flops": flops,
        "bytes_seconds": size / rates.bandwidth,
        "flops_seconds": flops / rates.matmul,
        "seconds": max(size / rates.bandwidth, flops / rates.matmul),
    }


def schedule(rows: Lengths, slots: int, prompt: int) -> tuple[int, int]:
    """Steps, and cache places read in all of them, where each row takes the first slot to come free. A prompt's places
    count once in a step in which any of its rows is live."""
    free, steps, places = [0] * slots, 0, 0
    for group in rows:
        live = 0  # up to which step a row of this prompt is
        for length in group:
            begin = heapq.heappop(free)
            end = begin + length
            heapq.heappush(free, end)
            places += length * (length - 1) // 2 + prompt * max(0, end - max(begin, live))
            live, steps = max(live, end), max(steps, end)
    return steps, places


def show(config: Bench, results: Mapping[str, dict[str, Any]], shared: Mapping[str, Any]) -> None:
    console = Console()
    title = f"{config.slots} slots, {config.threads or 'no'} thread(s) each, {shared['device']}"
    table = Table(box=SIMPLE_HEAD, title=title)
    for at, header in enumerate(
        ("lengths", "worker", "tokens", "CPU s", "tokens/s", "bandwidth", "idle", "floor")
    ):
        table.add_column(header, justify="left" if at < 2 else "right")
    for name, one in results.items():
        shares = (one["bandwidth_share"], one["slot_idle_share"], one["floor"]["share"])
        numbers = (f"{one['tokens']:,}", f"{one['cpu_seconds']:.2f}", f"{one['tokens_per_s']:,.0f}")
        table.add_row(name, OURS, *numbers, *(f"{share:.0%}" for share in shares))
        if config.peer:
            numbers = ("", f"{one['peer_cpu_seconds']:.2f}", f"{one['peer_tokens_per_s']:,.0f}")
            table.add_row("", config.peer, *numbers)
    console.print(table)
    lines = [line for name, one in results.items() for line in beside(config, name, one)]
    lines.append(
        f"matmul {shared['matmul_flops_per_s'] / 1e9:,.0f} GFLOP/s, copy {shared['copy_bandwidth'] / 1e9:,.1f} GB/s, "
        f"bandwidth {shared['bandwidth'] / 1e9:,.1f} GB/s; prefill {shared['prefill_tokens_per_s']:,.0f} tokens/s; peak "
        f"memory {shared['peak_bytes'] / 1e6:,.0f} MB"
    )
    if config.starts:
        cold, warm = shared["cold_start_seconds"], shared["warm_start_seconds"]
        lines.append(f"first token of a small model after {warm:.1f} s, {cold:.1f} s where it compiles")
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


def beside(config: Bench, name: str, one: Mapping[str, Any]) -> list[str]:
    """What stands beside a workload's numbers: its floor, and what the peer's say."""
    floor, steps = one["floor"], one["floor"]["steps"]
    arithmetic = f"{1e3 * floor['flops_seconds'] / steps:.3g} ms of arithmetic ({floor['flops'] / steps / 1e9:.3g} GFLOP)"
    reading = (
        f"{1e3 * floor['bytes_seconds'] / steps:.3g} ms of reading ({floor['bytes'] / steps / 1e6:.3g} MB)"
    )
    lines = [
        f"{name}: a step's floor is {arithmetic} and {reading}",
        f"{name}: {one['steps']} steps, {steps} at least; {one['mean_length']:.1f} tokens a row; "
        + f"{one['compilations']} compilations",
    ]
    if config.peer:
        lines.append(f"{name}: CPU time of {config.peer} over {OURS}: {one['ratio']:.2f}")
    if name == "fixed" and (seen := SEEN.get((config.peer, config.preset))):
        lines.append(beside_seen(config.peer, one["tokens"] / one["peer_cpu_seconds"], seen))
    return lines


def as_json(
    config: Bench, results: Mapping[str, dict[str, Any]], shared: Mapping[str, Any]
) -> dict[str, Any]:
    """The fixed workload's numbers by name; the geometric one's under "geometric"."""
    both = ("prefill_tokens_per_s", "peak_bytes")
    geometric = results["geometric"] | {name: shared[name] for name in both}
    found = results["fixed"] | dict(shared) | {"geometric": geometric, "config": plain(config)}
    if config.peer:
        seen = SEEN.get((config.peer, config.preset))
        found["peer"] = {"name": config.peer, "settings": FASTEST[config.peer], "seen_tokens_per_s": seen}
    return found


# A group of 64 completions, and 16 groups through its slots. A cache of 256 rows (--slots 256) is 97 GB beside the weights' 14.
SEVEN_BILLION = Bench(
    "deepseek_math_7b",
    DEEPSEEK_MATH_7B,
    prompts=1,
    queue_prompts=16,
    n=64,
    prompt=256,
    max_new_tokens=768,
    threads=0,
    matmul=8192,
    copy_bytes=1 << 32,
    rounds=3,
)
PRESETS = {
    "1m": Bench("1m", ONE_MILLION),
    "4m": Bench("4m", FOUR_MILLION),
    "deepseek_math_7b": SEVEN_BILLION,
    "tiny": Bench(
        "tiny", SMOKE, prompts=2, queue_prompts=4, n=2, prompt=8, max_new_tokens=12, slots=4, matmul=128,
        copy_bytes=1 << 20, rounds=1,
    ),
}  # fmt: skip

if __name__ == "__main__":
    run_script(main, PRESETS)
