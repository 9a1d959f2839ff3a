"""Benchmarks: a model's answers, judged, with intervals, and a page to read.

    python experiments/evaluate.py --model DIR_OR_HUB_ID_OR_RUN --benchmarks gsm8k,math --data DIR --out runs/evaluation
    python experiments/evaluate.py --preset paper --protocols few_shot_cot,few_shot_pot --model DIR --benchmarks gsm8k --data DIR
    python experiments/evaluate.py --benchmarks cmath --data DIR --protocols few_shot_cot --print-prompt

Files of benchmarks are read as published, from --data or the folder in DSM_DATA; `generator` is this project's own problems
and needs none. Protocols: few_shot_cot and few_shot_pot (a program, run in the sandbox) for base models, zero_shot_cot and
tool (programs on the way) for finetuned ones. Writes samples/BENCHMARK-PROTOCOL/*.jsonl (a row an answer), results.json and
report.html; started again it goes on. --sampling.n 64 with --sampling.temperature 0.7 gives maj@k and pass@k for every k.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evaluation_report import Key, print_summaries, show, write_evaluation_report

from dsm_jax.chat import ChatTemplate
from dsm_jax.cli import run_script
from dsm_jax.data.benchmarks import Problem, own_name
from dsm_jax.errors import UserError
from dsm_jax.evaluate.answering import Sampling, answer_benchmark, claim, forget_unchecked
from dsm_jax.evaluate.at_k import usual_ks
from dsm_jax.evaluate.isabelle import IsabelleClient
from dsm_jax.evaluate.problems import read_problems
from dsm_jax.evaluate.prompts import PAPER, Task, protocols_of, task
from dsm_jax.evaluate.prompts.tasks import PROVING
from dsm_jax.evaluate.samples import read_samples
from dsm_jax.evaluate.summary import Rewards, summarize
from dsm_jax.evaluate.tool import python_tool, require_sandbox
from dsm_jax.mesh import parse_mesh
from dsm_jax.processes import is_first_process, on_first_process
from dsm_jax.rows import read_rows
from dsm_jax.run import CONFIG, open_run, write_json
from dsm_jax.sample.loading import find_model, load_sampler
from dsm_jax.sample.sampler import Sampler

SAMPLES, MODEL = "samples", "model.json"
FREE = ("--mesh", "--slots", "--rewards", "--k", "--isabelle")  # what a second start may change


@dataclass(frozen=True)
class Evaluation:
    """Options."""

    preset: str = "default"
    model: str = ""  # a folder of a model, a hub id, or a run of ours (its model/)
    # names with commas between: gsm8k,math,sat,.. (docs/evaluation.md has all), or mine for a file of your own, --data mine.jsonl
    benchmarks: str = "generator"
    protocols: str = "zero_shot_cot"  # names with commas between, or all
    data: tuple[Path, ...] = ()  # folders and files of benchmarks; left out: the folder in DSM_DATA
    limit: int = 0  # problems of each benchmark, spread evenly over it; 0: all
    shots: int | None = None  # worked examples in a few-shot prompt; left out: as published
    sampling: Sampling = field(default_factory=Sampling)
    # of maj@k and pass@k, with spaces between; left out: powers of 2 and the number of answers
    k: tuple[int, ...] = ()
    # JSONL of rows {benchmark, protocol, id, sample, reward}: best-of-k and weighted votes by a reward model, too
    rewards: Path | None = None
    # HOST:PORT of `isabelle server`, whose password stands in ISABELLE_PASSWORD; it checks the proofs of minif2f
    isabelle: str = ""
    out: Path = Path("runs/evaluation")  # the run's folder; a second start goes on in it
    print_prompt: bool = False  # prints the first prompt of each and ends
    chat: bool = False  # zero-shot questions by the model's own chat template
    slots: int | None = None  # rows decoded at once; left out: as many as memory has room for
    # such as fsdp=8 or data=2,tensor=4, or a name (gpu-8; README); left out: every device on fsdp
    mesh: tuple[str, ...] = ()
    # left out: float32 on a CPU, bfloat16 elsewhere
    dtype: Literal["float32", "bfloat16"] | None = None

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise UserError(f"--limit is {self.limit}; it must be at least 0 (0: all)")
        if bad := [k for k in self.k if not 1 <= k <= self.sampling.n]:
            raise UserError(
                f"--k {bad[0]}: there are {self.sampling.n} answers a problem; give 1 to {self.sampling.n}, or raise --sampling.n"
            )


@dataclass(frozen=True)
class Asked:
    """A benchmark under a protocol."""

    task: Task
    problems: Sequence[Problem]

    @property
    def key(self) -> Key:
        return self.task.benchmark, self.task.protocol

    def folder(self, out: Path) -> Path:
        return out / SAMPLES / "-".join(self.key)


def main(config: Evaluation) -> None:
    asked = to_ask(config)
    if config.print_prompt:
        return print_prompts(asked)
    found, rewards = find_model(config.model), read_rewards(config, asked)
    template = ChatTemplate(found.folder) if config.chat else None
    if any(needs_sandbox(one) for one in asked):
        require_sandbox()
    mesh = parse_mesh(config.mesh)
    with isabelle_of(config) as isabelle:
        on_first_process(lambda: (config.out / CONFIG).exists() and open_run(config.out, config, FREE))
        sampler = load_sampler(found, mesh, dtype=config.dtype, slots=config.slots)
        fingerprint = sampler.fingerprint()
        on_first_process(lambda: begin(config, asked, fingerprint))
        for one in asked:
            ask(config, sampler, one, template, isabelle)
    on_first_process(lambda: report(config, asked, rewards))


def to_ask(config: Evaluation) -> list[Asked]:
    """Every benchmark under every protocol that it has. UserError for names that are none, files that are not there, and
    options that would do nothing."""
    names, protocols = listed(config.benchmarks), listed(config.protocols)
    for option, given in (("benchmarks", names), ("protocols", protocols)):
        if not given:
            raise UserError(f"--{option} is empty; name one, or several with commas between")
    pairs = [
        (name, protocol)
        for name in names
        for protocol in (protocols_of(name) if protocols == ["all"] else protocols)
    ]
    own = {own_name(path) for path in data_paths(config) if path.is_file()}
    tasks = [task(name, protocol, shots=config.shots, own=name in own) for name, protocol in pairs]
    require_used(config, tasks)
    problems = read_problems(names, data_paths(config), config.limit)
    return [Asked(one, problems[one.benchmark]) for one in tasks]


def require_used(config: Evaluation, tasks: Sequence[Task]) -> None:
    """UserError for an option that no task looks at."""
    few_shot = [one.protocol.startswith("few_shot") for one in tasks]
    if config.shots is not None and not any(few_shot):
        raise UserError("--shots: worked examples stand in few_shot_cot and few_shot_pot only")
    if config.chat and all(few_shot):
        raise UserError("--chat: few-shot prompts are for base models; ask zero_shot_cot or tool")
    if config.isabelle and not any(one.benchmark in PROVING for one in tasks):
        raise UserError("--isabelle: it checks the proofs of minif2f, which is not asked")
    if config.rewards and config.sampling.n == 1:
        raise UserError("--rewards: with one answer a problem there is nothing to choose; raise --sampling.n")


def listed(names: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))


def data_paths(config: Evaluation) -> Sequence[Path]:
    known = os.environ.get("DSM_DATA")
    if not config.data and known and not Path(known).exists():
        raise UserError(
            f"DSM_DATA={known}: no such folder; set it to the folder of benchmarks, or give --data"
        )
    return config.data or ((Path(known),) if known else ())


def print_prompts(asked: Sequence[Asked]) -> None:
    for one in asked:
        print(
            f"## {one.task.benchmark}, {one.task.protocol}; stops at {json.dumps(one.task.stop, ensure_ascii=False)}\n"
        )
        print(one.task.prompt(one.problems[0]), end="\n\n")


def read_rewards(config: Evaluation, asked: Sequence[Asked]) -> dict[Key, Rewards]:
    """Rewards by benchmark and protocol, then by problem and sample. UserError for a row without a field (file:line)."""
    rewards: dict[Key, dict[tuple[str, int], float]] = {}
    if config.rewards and not config.rewards.is_file():
        raise UserError(f"--rewards {config.rewards}: no such file")
    for place, row in read_rows(config.rewards) if config.rewards else ():
        try:
            reward = float(row["reward"])
            if not 0 <= reward < math.inf:
                raise ValueError(f"reward {reward} is not from 0 up")
            rewards.setdefault((row["benchmark"], row["protocol"]), {})[
                str(row["id"]), int(row["sample"])
            ] = reward
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{place}: not a row {{benchmark, protocol, id, sample, reward}} ({error})"
            ) from None
    if config.rewards and not rewards.keys() & {one.key for one in asked}:
        raise UserError(f"--rewards {config.rewards}: no row of a benchmark and protocol that is asked")
    return rewards


def begin(config: Evaluation, asked: Sequence[Asked], fingerprint: str) -> None:
    """Opens the run's folder; UserError where it holds answers of other options, another model or other problems."""
    open_run(config.out, config, FREE)
    claim(config.out / MODEL, fingerprint, {"-".join(one.key): (one.task, one.problems) for one in asked})
    if config.isabelle:
        for one in asked:
            forget_unchecked(one.folder(config.out))


def needs_sandbox(asked: Asked) -> bool:
    return asked.task.protocol == "tool" or asked.task.kind(asked.problems[0]) in ("program", "tests")


def isabelle_of(config: Evaluation) -> AbstractContextManager[IsabelleClient | None]:
    """Its client, where a server is given; of several processes the first one's."""
    if not config.isabelle or not is_first_process():
        return nullcontext()
    return IsabelleClient(config.isabelle, os.environ.get("ISABELLE_PASSWORD", ""))


def ask(
    config: Evaluation,
    sampler: Sampler,
    one: Asked,
    template: ChatTemplate | None,
    isabelle: IsabelleClient | None,
) -> None:
    """Answers what the run's folder does not hold yet."""

    def encode(problem: Problem) -> list[int]:
        if template and (question := one.task.instruction(problem)):
            return template.ids([{"role": "user", "content": question}])
        return [sampler.tokenizer.bos_id, *sampler.tokenizer.encode(one.task.prompt(problem))]

    tool = python_tool(sampler.tokenizer) if one.task.protocol == "tool" else None
    answer_benchmark(
        sampler,
        one.task,
        one.problems,
        one.folder(config.out),
        config.sampling,
        encode=encode,
        tool=tool,
        isabelle=isabelle,
    )


def report(config: Evaluation, asked: Sequence[Asked], rewards: dict[Key, Rewards]) -> None:
    """One benchmark's rows at a time: all of them need not fit into memory."""
    ks = config.k or usual_ks(config.sampling.n)
    summaries, shown = {}, {}
    for one in asked:
        rows = read_samples(one.folder(config.out))
        summaries[one.key], shown[one.key] = summarize(rows, ks, rewards.get(one.key)), show(one.key, rows)
    results = {
        "model": config.model,
        "scores": {"-".join(key): summary for key, summary in summaries.items()},
    }
    write_json(config.out / "results.json", results)
    write_evaluation_report(config.out / "report.html", config.model, summaries, shown, [how(config)])
    print_summaries(summaries)
    print(f"{config.out}: report.html, results.json, samples/")


def how(config: Evaluation) -> str:
    drawn = config.sampling
    kind = (
        "greedy"
        if drawn.temperature == 0
        else f"temperature {drawn.temperature}, top-p {drawn.top_p}, seed {drawn.rng_seed}"
    )
    some = f", {config.limit} problems of each benchmark at most" if config.limit else ""
    return (
        f"Answers a problem: {drawn.n}, {kind}{some}. Intervals are of 95%, over problems. Mode strict reads an answer behind "
        "a marker, flexible also one without, deepseek follows the released evaluation (docs/grader.md)."
    )


PRESETS = {
    "default": Evaluation(),
    "paper": Evaluation(
        preset="paper",
        sampling=Sampling(
            temperature=PAPER.temperature, top_p=PAPER.top_p, max_new_tokens=PAPER.max_new_tokens
        ),
    ),
}

if __name__ == "__main__":
    run_script(main, PRESETS)
