"""How fast the training step is: tokens a second, CPU time, share of the matmul rate, memory, and the wait for data.

    python experiments/bench_train.py --json FILE
    python experiments/bench_train.py --json FILE --peer tunix --peer-python PATH/TO/PYTHON
    python experiments/bench_train.py --json FILE --preset deepseek_math_7b

The step is train_lm's own: loss, gradients, clipping and AdamW, all parameters in fp32. A peer (Tunix's PeftTrainer, or
transformers on torch with its fused AdamW) runs in an environment of its own on the same weights and tokens with its
fastest settings (FASTEST), in alternation with us, each pinned to as many cores as it has threads. That it does the same
work is checked: the losses of the first two updates agree. Times are medians over the rounds; compilation is apart.

matmul_share is the model's arithmetic (what is made again does not count) over what one large matmul of the same worker
reached in the same run; mfu is over the device's peak, for a CPU the best that such a matmul reached in any worker. Both
count CPU time on a CPU, whose cores others may share, and tokens_per_s the time that passed.
data_wait_share is what read_ahead.py says of steps whose windows are read from ArrayRecord files through a mixture.
Left out on purpose: several devices, checkpoints.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

from bench_turns import Rounds, Worker, beside_seen, check_options, in_turns, plain, worker
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dsm_jax.cli import run_script
from dsm_jax.data.problems import ProblemSet
from dsm_jax.data.tokenize import tokenize_source
from dsm_jax.errors import UserError
from dsm_jax.model.config import DEEPSEEK_MATH_7B, TINY, ModelConfig
from dsm_jax.model.decoder import Remat
from dsm_jax.model.flops import flops_per_token
from dsm_jax.run import write_json
from dsm_jax.tokenizer import train_sentencepiece
from dsm_jax.train.optimizer import OptimizerConfig

OURS = "dsm_jax"
SOURCES, PROBLEMS = ("first", "second"), 2_000  # of the mixture, and problems in each
TOKENIZER = 512  # pieces; no preset has a smaller vocabulary
SAME_LOSS = 1e-3  # nats that a peer's may differ by
# What the peers were fastest with, and tokens a second that they have been seen to reach (4.07M parameters, 2 cores).
FASTEST: dict[str, dict[str, Any]] = {
    "tunix": {"peer_remat": "NONE", "peer_micro_batches": 8},
    "torch": {"peer_remat": "", "peer_micro_batches": 1},
}
SEEN = {"tunix": 2_700}
# 4.07M parameters. Tunix's Llama turns its positions with this rope_theta, whatever its configuration says.
FOUR_MILLION = replace(
    TINY,
    d_model=256,
    d_ff=1024,
    n_kv_heads=2,
    head_dim=64,
    tie_embeddings=True,
    rope_theta=1e6,
    init_std=0.044,
)


@dataclass(frozen=True)
class Bench:
    """Options of the benchmark."""

    preset: str
    model: ModelConfig
    optimizer: OptimizerConfig = OptimizerConfig(peak_lr=1e-4, schedule="constant")
    rows: int = 16  # windows in a batch
    time: int = 256  # tokens of a window
    micro_batch_rows: int = 8  # windows whose activations exist at once; 0: the whole batch
    remat: Remat = "dots"  # what our backward pass makes again
    documents: int = 8  # in a window of the packed step
    threads: int = 1  # of each worker, on the CPU; 0: the accelerator
    matmul: int = 1024  # rows, columns and depth of the matmul that is the measure
    rounds: int = 7  # each measures every task once with every worker
    steps: int = 8  # that read their windows from files
    # the C library's settings: each worker's as its users have it (ours sets its own), or ours for both
    allocator: Literal["own", "same"] = "own"
    json: Path | None = None  # file for the numbers
    peer: Literal["", "torch", "tunix"] = ""
    peer_python: Path = Path("python")  # of the peer's environment

    def __post_init__(self) -> None:
        for name in ("rows", "documents", "matmul", "rounds", "steps"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 1")
        if not 2 * self.documents <= self.time <= self.model.max_seq_len:
            raise UserError(
                f"--time is {self.time}; it must be at least {2 * self.documents}, for {self.documents} documents, and "
                f"at most the model's {self.model.max_seq_len}"
            )
        if self.micro_batch_rows < 0 or self.rows % (self.micro_batch_rows or self.rows):
            raise UserError(
                f"--micro-batch-rows is {self.micro_batch_rows}; it must divide --rows {self.rows}, or be 0"
            )
        check_options(self)


def main(config: Bench) -> None:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        data = stored_windows(config, Path(folder) / "data")
        workers = start(config, Path(folder) / "model", data, stack)
        in_turns(workers, ("train",), 1)  # compiles
        found = in_turns(workers, ("matmul", "train"), config.rounds)
        reports = {name: one.ask({"task": "report"}) for name, one in workers.items()}
        ours = {OURS: workers[OURS]}
        packed = in_turns(ours, ("packed",), config.rounds)[OURS]
        waited = workers[OURS].ask({"task": "data"})
        reports[OURS] = workers[OURS].ask({"task": "report"})
    require_same_work(reports)
    results = summaries(config, found, reports)
    results[OURS] |= {
        "data_wait_share": waited["data_wait_share"],
        "tokens_per_s_from_files": config.rows * config.time / waited["seconds"],
        "packed": summary(config, packed | {"matmul": found[OURS]["matmul"]}, "packed", config.documents),
        "memory": reports[OURS]["memory"],
    }
    show(config, results, reports[OURS])
    if config.json:
        write_json(config.json, as_json(config, results, reports[OURS]))


def stored_windows(config: Bench, folder: Path) -> dict[str, str]:
    """Two sources of the generator's problems, tokenised into folders of windows."""
    problems, found = ProblemSet("train", seed=0), {}
    texts = [f"{one.question}\n{one.solution}" for one in map(problems.__getitem__, range(PROBLEMS))]
    tokenizer = folder / "tokenizer.model"
    train_sentencepiece(texts[:400], tokenizer, vocab_size=min(TOKENIZER, config.model.vocab_size))
    for number, name in enumerate(SOURCES):
        file = folder / f"{name}.jsonl"
        rows = (json.dumps({"text": text}) + "\n" for text in texts[number :: len(SOURCES)])
        file.write_text("".join(rows))
        tokenize_source([file], tokenizer, config.time, folder / name)
        found[name] = str(folder / name)
    return found


def start(config: Bench, folder: Path, data: Mapping[str, str], stack: ExitStack) -> dict[str, Worker]:
    """The workers, each with its model built; ours writes the weights that the peer reads."""
    names = ("rows", "time", "micro_batch_rows", "remat", "documents", "threads", "matmul", "steps")
    request = {name: getattr(config, name) for name in names} | {
        "model": plain(config.model),
        "optimizer": plain(config.optimizer),
        "folder": str(folder) if config.peer else "",
        "data": data,
        **FASTEST.get(config.peer, {}),
    }
    scripts = {OURS: (Path(sys.executable), "bench_train_ours.py")}
    if config.peer:
        scripts[config.peer] = (config.peer_python, f"bench_train_{config.peer}.py")
    workers = {}
    for name, (python, script) in scripts.items():
        started = worker(python, script, config.threads, allocator=config.allocator == "same")
        workers[name] = stack.enter_context(started)
        workers[name].ask(request)
    return workers


def require_same_work(reports: Mapping[str, dict[str, Any]]) -> None:
    """AssertionError where a worker's first updates have other losses than ours."""
    for name, report in reports.items():
        for ours, theirs in zip(reports[OURS]["first_losses"], report["first_losses"], strict=True):
            if not abs(ours - theirs) < SAME_LOSS:
                raise AssertionError(f"{name} computes something else: loss {theirs}, ours {ours}")


def summaries(
    config: Bench, found: Mapping[str, Rounds], reports: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Worker -> medians of its step."""
    clock = clock_of(config)
    fastest = max(2 * config.matmul**3 / one[clock] for tasks in found.values() for one in tasks["matmul"])
    peak = reports[OURS]["peak_flops"] or fastest
    results = {name: summary(config, tasks, "train", 1) for name, tasks in found.items()}
    for one in results.values():
        one["mfu"] = one["flops_per_s"] / peak
    return results


def clock_of(config: Bench) -> str:
    """What rates of arithmetic are measured by: on cores that others may share, CPU time."""
    return "cpu_seconds" if config.threads else "seconds"


def summary(config: Bench, tasks: Rounds, task: str, documents: int) -> dict[str, Any]:
    """Medians of a step whose windows hold so many documents."""
    tokens, clock = config.rows * config.time, clock_of(config)
    times = {key: median(one[key] for one in tasks[task]) for key in ("seconds", "cpu_seconds")}
    rate = 2 * config.matmul**3 / median(one[clock] for one in tasks["matmul"])
    flops = tokens * flops_per_token(config.model, config.time / documents / 2, backward=True) / times[clock]
    return {
        "tokens_per_s": tokens / times["seconds"],
        "seconds_per_step": times["seconds"],
        "cpu_seconds_per_step": times["cpu_seconds"],
        "matmul_flops_per_s": rate,
        "flops_per_s": flops,
        "matmul_share": flops / rate,
        "peak_bytes": max(one["peak_bytes"] for one in tasks[task]),
    }


def show(config: Bench, results: Mapping[str, dict[str, Any]], report: Mapping[str, Any]) -> None:
    console = Console()
    title = (
        f"{config.rows} x {config.time} tokens, {config.threads or 'no'} thread(s) each, {report['device']}"
    )
    table = Table(box=SIMPLE_HEAD, title=title)
    headers = ("worker", "step ms", "CPU ms", "tokens/s", "MFU", "of matmul", "peak MB")
    for header in headers:
        table.add_column(header, justify="left" if header == "worker" else "right")
    rows = {**results, f"{OURS}, packed": {"mfu": None, **results[OURS]["packed"]}}
    for name, one in rows.items():
        times = [1e3 * one["seconds_per_step"], 1e3 * one["cpu_seconds_per_step"], one["tokens_per_s"]]
        shares = ["" if one[key] is None else f"{one[key]:.0%}" for key in ("mfu", "matmul_share")]
        table.add_row(
            name, *(f"{number:,.0f}" for number in times), *shares, f"{one['peak_bytes'] / 1e6:,.0f}"
        )
    console.print(table)
    ours = results[OURS]
    memory = ", ".join(f"{name} {size / 1e9:.3g}" for name, size in ours["memory"].items())
    console.print(f"memory in GB: {memory}", highlight=False)
    console.print(
        f"from files: {ours['tokens_per_s_from_files']:,.0f} tokens/s, waiting for them {ours['data_wait_share']:.2%} of "
        "the time",
        highlight=False,
        soft_wrap=True,
    )
    if config.peer:
        console.print("\n".join(beside(config, results)), highlight=False, soft_wrap=True)


def beside(config: Bench, results: Mapping[str, dict[str, Any]]) -> list[str]:
    """What the peer's numbers say."""
    peer = config.peer
    rate = config.rows * config.time / results[peer]["cpu_seconds_per_step"]
    lines = [f"CPU time of {peer} over {OURS}: {ratio(config, results):.2f}"]
    if seen := SEEN.get(peer, 0):
        lines.append(beside_seen(peer, rate, seen))
    return lines


def ratio(config: Bench, results: Mapping[str, dict[str, Any]]) -> float:
    return results[config.peer]["cpu_seconds_per_step"] / results[OURS]["cpu_seconds_per_step"]


def as_json(
    config: Bench, results: Mapping[str, dict[str, Any]], report: Mapping[str, Any]
) -> dict[str, Any]:
    """Our numbers by name; the peer's under "peer"."""
    about = {"config": plain(config), "device": report["device"], "jax": report["jax"]}
    if not config.peer:
        return results[OURS] | about
    peer = results[config.peer] | {"name": config.peer, "settings": FASTEST[config.peer]}
    over = {"peer": peer, "peer_cpu_over_ours": ratio(config, results), "peer_seen": SEEN.get(config.peer)}
    return results[OURS] | over | about


# A step of the 7B in bf16 with moments in bf16: 28 GB of weights, 28 of moments, 28 of gradients.
SEVEN_BILLION = Bench(
    "deepseek_math_7b",
    DEEPSEEK_MATH_7B,
    optimizer=OptimizerConfig(peak_lr=1e-5, schedule="constant", moments="bfloat16"),
    rows=4,
    time=4096,
    micro_batch_rows=0,  # a sum over micro-batches would be a second tree of gradients
    remat="full",
    threads=0,
    matmul=8192,
    rounds=5,
)
PRESETS = {
    "sft_4m": Bench("sft_4m", FOUR_MILLION),
    "deepseek_math_7b": SEVEN_BILLION,
    "tiny": Bench("tiny", TINY, time=128, matmul=256, rounds=1, steps=2),
}

if __name__ == "__main__":
    run_script(main, PRESETS)
