"""How fast the decoder is: forward, forward and backward, and a decode step, beside transformers at the same shape.

    python experiments/bench_model.py --json bench.json
    python experiments/bench_model.py --json bench.json --peer torch --peer-python PATH/TO/PYTHON

The peer runs transformers on torch in its own environment (torch, transformers and safetensors), on the same weights,
in alternation with us, each pinned to as many cores as it has threads, with the same allocator settings (transparent huge pages:
a large share of the time is otherwise the kernel's, clearing pages). Times are medians over the rounds; compilation is
apart. MFU is the model's arithmetic over what one large matmul of the same worker reached in the same run.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

from bench_turns import Rounds, check_options, in_turns, plain, worker
from bench_worker import MATMUL
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dsm_jax.cli import run_script
from dsm_jax.errors import UserError
from dsm_jax.model.config import TINY, ModelConfig
from dsm_jax.model.flops import flops_per_token
from dsm_jax.run import write_json

TASKS = ("matmul", "forward", "train", "decode")
# 4.46M parameters: a core computes a step of 16 x 256 tokens in about a second.
FOUR_MILLION = replace(TINY, d_model=256, d_ff=1024, n_kv_heads=4, head_dim=64, init_std=0.044)


@dataclass(frozen=True)
class Bench:
    """Options of the benchmark."""

    preset: str
    model: ModelConfig
    rows: int = 16  # sequences in a batch
    time: int = 256  # tokens of a sequence
    threads: int = 1  # of each worker
    remat: Literal["none", "dots", "full"] = "dots"  # what our backward pass makes again
    rounds: int = 7  # each measures every task once with every worker
    json: Path | None = None  # file for the numbers
    peer: Literal["", "torch"] = ""
    peer_python: Path = Path("python")  # of the peer's environment

    def __post_init__(self) -> None:
        for name in ("rows", "time", "threads", "rounds"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 1")
        if self.time > self.model.max_seq_len:
            raise UserError(
                f"--time is {self.time}; the model's longest sequence is {self.model.max_seq_len}"
            )
        check_options(self)


def main(config: Bench) -> None:
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(config, Path(folder))
    names = list(measured)
    results = {name: summary(config, tasks) for name, tasks in measured.items()}
    print_table(config, results)
    if config.json:
        write_json(config.json, {"config": plain(config), "workers": results, "order": names})


def measure(config: Bench, folder: Path) -> dict[str, Rounds]:
    """Worker -> task -> one measurement a round, the workers taking turns."""
    request = {"folder": str(folder), "rows": config.rows, "time": config.time, "threads": config.threads}
    with ExitStack() as stack:
        ours = stack.enter_context(worker(sys.executable, "bench_model_ours.py", config.threads))
        ours.ask(
            request | {"model": plain(config.model), "remat": config.remat}
        )  # writes the weights into the folder
        workers = {"dsm_jax": ours}
        if config.peer:
            started = worker(config.peer_python, "bench_model_torch.py", config.threads)
            workers[config.peer] = stack.enter_context(started)
            workers[config.peer].ask(request)
        return in_turns(workers, TASKS, config.rounds)


def summary(config: Bench, tasks: Rounds) -> dict[str, dict[str, float]]:
    """Task -> medians, tokens a second and MFU."""
    rate = 2 * MATMUL**3 / median(one["seconds"] for one in tasks["matmul"])
    result = {}
    for task, rounds in tasks.items():
        seconds, cpu = (median(one[key] for one in rounds) for key in ("seconds", "cpu_seconds"))
        result[task] = {
            "seconds": seconds,
            "cpu_seconds": cpu,
            "peak_bytes": max(one["peak_bytes"] for one in rounds),
        }
        if task != "matmul":
            tokens = config.rows * (1 if task == "decode" else config.time)
            places = (
                config.time if task == "decode" else config.time / 2
            )  # of the cache; of the tokens before
            flops = tokens * flops_per_token(config.model, places, backward=task == "train")
            result[task] |= {"tokens_per_second": tokens / seconds, "mfu": flops / seconds / rate}
    return result


def print_table(config: Bench, results: dict[str, dict[str, dict[str, float]]]) -> None:
    table = Table(
        box=SIMPLE_HEAD, title=f"{config.rows} x {config.time} tokens, {config.threads} thread(s) each"
    )
    for header in ("task", "worker", "ms", "CPU ms", "tokens/s", "MFU", "peak MB"):
        table.add_column(header, justify="left" if header in ("task", "worker") else "right")
    for task in TASKS[1:]:
        for name, tasks in results.items():
            one = tasks[task]
            numbers = (1e3 * one["seconds"], 1e3 * one["cpu_seconds"], one["tokens_per_second"])
            cells = [f"{number:,.1f}" for number in numbers]
            table.add_row(task, name, *cells, f"{one['mfu']:.0%}", f"{one['peak_bytes'] / 1e6:,.0f}")
    console = Console()
    console.print(table)
    for peer in [name for name in results if name != "dsm_jax"]:
        ratios = {
            task: results["dsm_jax"][task]["cpu_seconds"] / results[peer][task]["cpu_seconds"]
            for task in TASKS[1:]
        }
        console.print(
            f"CPU time of dsm_jax over {peer}: "
            + ", ".join(f"{task} {ratio:.2f}" for task, ratio in ratios.items())
        )


PRESETS = {"four_million": Bench("four_million", FOUR_MILLION), "tiny": Bench("tiny", TINY)}

if __name__ == "__main__":
    run_script(main, PRESETS)
