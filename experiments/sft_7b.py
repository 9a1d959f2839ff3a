"""Supervised finetuning of DeepSeekMath-Base 7B with the paper's numbers (section 3), or of any Llama-shaped model.

    python experiments/sft_7b.py --mesh --data GSM8K.jsonl MATH/train MathInstruct.json LILA.json TRANSCRIPTS.jsonl
    python experiments/sft_7b.py --mesh --init DIR_OR_HUB_ID_OR_RUN --data CHATS.jsonl.zst
    python experiments/sft_7b.py --mesh --preset tiny    1M parameters, worked problems of the generator

Files of any form that dsm_jax/data/instructions.py reads are tokenised once, into windows/: loss on the answers only, tool
outputs masked. A share of the questions is held out: their answers' perplexity is written as training goes on, and at
the end the model answers held-out questions, which are graded. The same command goes on where a killed run was. The
run's folder holds config.json, metrics.jsonl, tb/, windows/, checkpoints/, answers/, results.json, report.html and model/,
the result in Hugging Face's format. Several processes (a pod's hosts) run the same command on a disk that all of them see,
with --questions 0.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import jax
from jax.sharding import Mesh
from own_tokenizer import tokenizer_file
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Printed
from sft_questions import ANSWERS, FAMILIES, LEVELS, ask, held_out_questions
from small_model import SYMBOLS
from training_curves import write_training_report

from dsm_jax.cli import run_script
from dsm_jax.data.corpus import StoredWindows, require_same_windows
from dsm_jax.data.instructions import find_sft_parts, read_sft
from dsm_jax.data.mixture import Mixture, Source
from dsm_jax.data.problems import ProblemSet
from dsm_jax.data.prompts import prompt_text
from dsm_jax.data.sft import KINDS
from dsm_jax.data.tokenize import HELD_OUT
from dsm_jax.data.tokenize_sft import SKIPPED, TOO_LONG, tokenize_sft
from dsm_jax.errors import UserError
from dsm_jax.evaluate.harness import read_answers
from dsm_jax.evaluate.report import Section, Table
from dsm_jax.mesh import parse_mesh
from dsm_jax.model import Model, save_hf
from dsm_jax.model.config import SMOKE, TINY
from dsm_jax.model.decoder import Params
from dsm_jax.place import Place, open_place, require_shared
from dsm_jax.processes import is_first_process, on_first_process, wait_for_first_process
from dsm_jax.run import (
    claim_export_folder,
    forget_unfinished,
    open_run,
    preparing,
    read_metrics,
    require_export_folder,
    write_json,
    write_text,
)
from dsm_jax.tokenizer import load_tokenizer
from dsm_jax.train.held_out import HeldOut, first_windows, make_scorer
from dsm_jax.train.lm import FREE, LMTraining, check_rows, train_lm
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.memory import require_memory
from dsm_jax.train.optimizer import OptimizerConfig
from dsm_jax.train.sft import DEEPSEEK_MATH_7B
from dsm_jax.train.start import CHECKPOINTS, SHAPE, Start, find_start, keep_shape

BASE_7B = "deepseek-ai/deepseek-math-7b-base"
SMALL = {"tiny": TINY, "smoke": SMOKE}  # models of the presets without --init
FREE_HERE = (*FREE, "--out", "--windows", "--export", "--mesh", "--workers")  # they change no result
SOLUTIONS = {"cot": "solution", "pot": "program", "tool": "tool_solution"}  # attributes of a problem
TOKENIZER_RECORDS = 3_000  # for a model without a tokenizer
SHOWN = 20  # answers in report.html


@dataclass(frozen=True)
class Finetuning:
    """Options of a finetuning run."""

    preset: str
    # a Hugging Face folder, a hub id, or a run of ours; None: the preset's model from random numbers
    init: str | None = BASE_7B
    # files and folders of examples; none: worked problems of the generator (tiny, smoke)
    data: tuple[Path, ...] = ()
    only_correct: bool = False  # of ToRA's results, only those with the true answer
    chat_template: bool = False  # the model's own template, not DeepSeekMath's "User: .. Assistant: .."
    training: LMTraining = DEEPSEEK_MATH_7B
    problems: int = 20_000  # of the generator, where there is no --data
    # their solutions: in words, as a program, with a tool; each one an example
    solutions: tuple[Literal["cot", "pot", "tool"], ...] = ("cot",)
    held_out: int = 20  # questions of 10,000 that are not trained on; 0: none
    held_out_windows: int = 256  # that are scored
    questions: int = 200  # held-out questions that the model answers at the end; 0: none
    max_new_tokens: int = 1_024  # of an answer
    workers: int = os.cpu_count() or 1  # processes that tokenise
    windows: Path | None = None  # folder of the tokenised examples, for several runs; None: windows/ in --out
    export: Path | None = None  # folder of the result in Hugging Face's format; None: model/ in --out
    # such as fsdp=8,tensor=4, or a name (gpu-8, v5p-128; README); left out: every device on fsdp
    mesh: tuple[str, ...] = ()
    out: str = "runs/sft_7b"  # the run's folder, or a URL: gs://, s3://, or what else fsspec knows
    rng_seed: int = 0  # of the order of windows, and of random parameters

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 10_000:
            raise UserError(
                f"--held-out is {self.held_out}; it must be from 0 to 9,999 (questions of 10,000)"
            )
        at_least = {"problems": 1, "held_out_windows": 1, "questions": 0, "max_new_tokens": 1}
        if not self.solutions:
            raise UserError("--solutions: give cot, pot or tool, or several")
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise UserError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least {least}"
                )


TINY_RUN = Finetuning(
    preset="tiny",
    init=None,
    training=LMTraining(
        loop=LoopConfig(steps=300, log_every=20, checkpoint_every=100, stop_every=100),
        optimizer=OptimizerConfig(peak_lr=3e-3, warmup_steps=20, schedule="cosine"),
        batch_size=16,
        window=256,
        micro_batch_rows=8,  # few activations, which stay in a core's cache; 8 devices divide it
        remat="dots",
    ),
    held_out=100,
    held_out_windows=64,
    max_new_tokens=96,
    out="runs/sft_tiny",
)
SMOKE_RUN = replace(
    TINY_RUN,
    preset="smoke",
    training=replace(
        TINY_RUN.training,
        loop=LoopConfig(steps=20, log_every=5, checkpoint_every=5, stop_every=10),
        optimizer=OptimizerConfig(peak_lr=3e-3, warmup_steps=5),
        window=128,
    ),
    problems=1_000,
    questions=16,
    max_new_tokens=32,
    out="runs/sft_smoke",
)
PAPER_RUN = Finetuning(
    "paper", training=replace(DEEPSEEK_MATH_7B, loop=replace(DEEPSEEK_MATH_7B.loop, stop_every=100))
)
PRESETS = {config.preset: config for config in (PAPER_RUN, TINY_RUN, SMOKE_RUN)}


def main(config: Finetuning) -> None:
    mesh = parse_mesh(config.mesh)
    require_shared(config.out, config.windows, jax.process_count())
    check_data(config)
    start = find_start(config.init, mesh, own=SMALL.get(config.preset))
    start.require_length("--training.window", config.training.window)
    start.require_length("--max-new-tokens", config.max_new_tokens)
    check_rows(config.training, mesh)
    require_memory(config.training, start.config, mesh)
    start.require_params(mesh)
    with open_place(config.out, copies=is_first_process()) as place:
        on_first_process(lambda: prepare(config, place.folder, start))
        results = train(config, place, start, mesh)
        if is_first_process():
            write_json(place.folder / "results.json", results)
            report(config, place.folder, results)
            print_results(results)
            exported = config.export or f"{config.out}/model"
            print(
                f"{config.out}: report.html, results.json, metrics.jsonl, answers/; for transformers: {exported}"
            )
    wait_for_first_process()


def check_data(config: Finetuning) -> None:
    """UserError where there is nothing to train on, or nobody to ask."""
    if not config.data and config.preset not in SMALL:
        raise UserError(
            "no examples: give --data FILES (rows of GSM8K, MATH, MathInstruct, ToRA, Lila, messages, or any pairs)"
        )
    if config.data:
        on_first_process(lambda: find_sft_parts(config.data))
    if config.chat_template and (config.questions or config.init is None):
        raise UserError(
            "--chat-template: needs --init, and --questions 0 (they are asked in DeepSeekMath's template)"
        )
    if config.questions and jax.process_count() > 1:
        raise UserError(f"--questions {config.questions}: one process answers, and there are several; give 0")


def prepare(config: Finetuning, out: Path, start: Start) -> None:
    """The run's folder and all that is in it before the first update: one process's work."""
    if config.export:
        require_export_folder(config.export, out)
    forget_unfinished(out, "sources", "tokenizer")
    open_run(out, config, FREE_HERE)
    with preparing(out):
        make_windows(config, out, start)


def make_windows(config: Finetuning, out: Path, start: Start) -> None:
    """The run's tokenizer and its examples' windows."""
    data = config.data or own_data(config, out)
    tokenizer = tokenizer_file(out, start, lambda: first_texts(data), SYMBOLS)
    windows = tokenize_sft(
        data, tokenizer, config.training.window, windows_of(config, out),
        held_out=config.held_out, workers=config.workers, only_correct=config.only_correct,
        chat_template=config.chat_template,
    )  # fmt: skip
    print(told(counts(windows.manifest), config.training.window))
    held_out_answers(config, out)
    require_same_windows(out, {"examples": windows})
    keep_shape(start.config, tokenizer, out)


def windows_of(config: Finetuning, out: Path) -> Path:
    return config.windows or out / "windows"


def own_data(config: Finetuning, out: Path) -> tuple[Path, ...]:
    """Worked problems of the generator, as a file of examples."""
    file = out / "sources" / "problems.jsonl"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        problems = ProblemSet("train", FAMILIES, LEVELS, seed=config.rng_seed)
        rows = (
            {"question": problem.question, "answer": answer}
            for problem in map(problems.__getitem__, range(config.problems))
            for answer in (getattr(problem, SOLUTIONS[kind]) for kind in config.solutions)
        )
        write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return (file,)


def first_texts(data: Sequence[Path]) -> list[str]:
    """Of the first examples, for a tokenizer."""
    records = islice(read_sft(data), TOKENIZER_RECORDS)
    return [f"{prompt_text(record.question)} {record.turns[-1].text}" for record in records]


def train(config: Finetuning, place: Place, start: Start, mesh: Mesh) -> dict[str, Any]:
    """Trains to the end, exports, scores and asks; the content of results.json."""
    model, out, shape = start.config, place.folder, place.folder / CHECKPOINTS / SHAPE
    windows = StoredWindows(windows_of(config, out))
    tokenizer = load_tokenizer(shape) if config.questions else None  # one process's, which has the folder
    room = model.max_seq_len - config.max_new_tokens
    asked = (
        held_out_questions(config.data, config.held_out, config.questions, tokenizer, room)
        if tokenizer
        else []
    )
    mixture = Mixture({"sft": Source(windows, 1.0)}, config.training.batch_size, config.rng_seed)
    held = held_out_answers(config, out)
    score = make_scorer(model, mesh, config.training.rows_at_once)

    def scores(params: Params) -> dict[str, float]:
        return score(params, held) if held else {}

    def look(params: Params, step: int) -> tuple[bool, dict[str, float]]:
        return False, {f"held_out/answers/{name}": value for name, value in scores(params).items()}

    params = train_lm(
        config.training, model, mesh, batch=mixture.batch, start=lambda: start.params(mesh, config.rng_seed),
        folder=out, checkpoints_in=place.checkpoints, description="SFT", stop=look, rng_seed=config.rng_seed,
    )  # fmt: skip
    if folder := config.export:
        on_first_process(lambda: claim_export_folder(folder, out))
    save_hf(Model(model, params), config.export or out / "model", shape)
    return {
        "steps": config.training.loop.steps,
        "epochs": mixture.epochs(config.training.loop.steps)["sft"],
        "examples": counts(windows.manifest),
        "held_out": scores(params),
        "answers": ask(model, params, tokenizer, mesh, asked, out, config.max_new_tokens)
        if tokenizer
        else {},
    }


def held_out_answers(config: Finetuning, out: Path) -> HeldOut | None:
    """The first windows that are held out. UserError where there are none, though some were to be."""
    if not config.held_out:
        return None
    stored = StoredWindows(windows_of(config, out) / HELD_OUT)
    if not len(stored):
        raise UserError(
            f"--held-out {config.held_out} of 10,000 questions: none of these; give more, or 0 to score none"
        )
    return first_windows(stored, config.held_out_windows)


def counts(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Of the windows: examples by kind, tokens, targets, what is left out."""
    return {name: value for name, value in manifest.items() if isinstance(value, int) and name != "window"}


def told(found: Mapping[str, int], window: int) -> str:
    """The counts in a sentence."""
    kinds = ", ".join(f"{found[kind]:,} {kind}" for kind in KINDS if found[kind])
    left = [f"{found[TOO_LONG]:,} longer than {window} tokens (--training.window)"] if found[TOO_LONG] else []
    left += [
        f"{n:,} {name.removeprefix(SKIPPED)}" for name, n in found.items() if name.startswith(SKIPPED) and n
    ]
    return (
        f"{found['examples']:,} examples ({kinds}) in {found['windows']:,} windows, {found['tokens']:,} tokens, "
        f"{found['targets']:,} of them targets; left out: {', '.join(left) or 'none'}"
    )


HEADER = ("held-out questions", "", "95% interval")


def scores_table(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """A row for each score."""
    rows = [
        (f"{name.replace('_', ' ')} of answers", f"{value:.3f}", "")
        for name, value in results["held_out"].items()
    ]
    said = {"greedy": "answered right", "boxed": "stopped, with a box", "greedy_boxed": "right, of those"}
    for name, found in results["answers"].items():
        interval = f"{100 * found['low']:.1f} to {100 * found['high']:.1f}"
        rows.append((f"{said[name]} (of {found['n']})", f"{100 * found['value']:.1f}%", interval))
    return rows


def print_results(results: dict[str, Any]) -> None:
    table = Printed(
        box=SIMPLE_HEAD, title=f"after {results['steps']} updates, {results['epochs']:.2g} epochs"
    )
    for header in HEADER:
        table.add_column(header, justify="left" if header == HEADER[0] else "right")
    for row in scores_table(results):
        table.add_row(*row)
    if table.row_count:
        Console().print(table)


def report(config: Finetuning, out: Path, results: dict[str, Any]) -> None:
    """report.html: scores, examples, some answers, then every curve."""
    lead = (
        f"{results['examples']['examples']:,} examples, {results['epochs']:.2g} epochs in {results['steps']:,} updates, "
        f"from {config.init or 'random numbers'}"
    )
    examples = tuple((name.replace("_", " "), f"{n:,}") for name, n in results["examples"].items())
    sections = [
        Section("Held-out questions", (Table(HEADER, tuple(scores_table(results))),)),
        Section("Examples", (Table(("of the windows", "count"), examples),)),
    ]
    if results["answers"]:
        rows = read_answers(out / ANSWERS)[:SHOWN]
        shown = tuple(
            (row.question, row.responses[0], "right" if row.correct[0] else "wrong") for row in rows
        )
        sections.append(Section("Answers", (Table(("question", "answer", "verdict"), shown),)))
    write_training_report(out, "Finetuning", lead, sections, read_metrics(out / "metrics.jsonl"))


if __name__ == "__main__":
    run_script(main, PRESETS)
