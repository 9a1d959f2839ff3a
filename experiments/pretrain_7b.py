"""Continued pretraining of DeepSeek-Coder-v1.5 7B with the paper's numbers (section 2.3), or of any Llama-shaped model.

    python experiments/pretrain_7b.py --mesh --sources.math-corpus CORPUS --sources.github-code CODE ..
    python experiments/pretrain_7b.py --mesh --init DIR_OR_HUB_ID_OR_RUN --sources.math-corpus FILE.jsonl.zst
    python experiments/pretrain_7b.py --stage tokenize --windows DIR --sources.arxiv PAPERS ..    beforehand, without a device
    python experiments/pretrain_7b.py --mesh --preset tiny    1M parameters, code and worked problems of this installation

A source is files and folders of any form that dsm_jax/data/texts.py reads; it is tokenised once, into windows/. A share of
each is held out: its perplexity and bits per byte are written as training goes on, and set beside a unigram model's at
the end. The same command goes on where a killed run was. The run's folder holds config.json, metrics.jsonl, tb/,
windows/, checkpoints/, results.json, report.html and model/, the result in Hugging Face's format. Several processes (a pod's
hosts) run the same command on a disk that all of them see, or in gs:// or s3:// (docs/training.md).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import jax
from jax.sharding import Mesh
from own_tokenizer import tokenizer_file
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Printed
from training_curves import write_training_report

from dsm_jax.cli import run_script
from dsm_jax.data.corpus import StoredWindows, require_same_windows
from dsm_jax.data.mixture import Mixture, Source
from dsm_jax.data.problems import ProblemSet
from dsm_jax.data.texts import find_parts, read_part
from dsm_jax.data.tokenize import HELD_OUT, tokenize_source
from dsm_jax.errors import UserError
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
from dsm_jax.train.held_out import HeldOut, first_windows, make_scorer, unigram
from dsm_jax.train.lm import FREE, LMTraining, check_rows, train_lm
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.memory import require_memory
from dsm_jax.train.optimizer import OptimizerConfig
from dsm_jax.train.pretrain import DEEPSEEK_MATH_7B, MIXTURE
from dsm_jax.train.start import CHECKPOINTS, SHAPE, Start, find_start, keep_shape

CODER_7B = "deepseek-ai/deepseek-coder-7b-base-v1.5"
OWN_CODE = ("sympy/core", "sympy/functions", "sympy/solvers", "sympy/ntheory")  # packages that tiny reads
OWN_PROBLEMS = 20_000
OWN_SOURCES = ("math_corpus", "github_code")
TOKENIZER_TEXTS = 400  # of each source, for a model without a tokenizer
FREE_HERE = (
    *FREE,
    "--out",
    "--windows",
    "--export",
    "--mesh",
    "--workers",
    "--stage",
)  # they change no result
UNIGRAM_WINDOWS = 20_000  # of each source, that the unigram model counts


@dataclass(frozen=True)
class Sources:
    """Files and folders of each source of the mixture; one without any is left out, its weight shared by the others."""

    math_corpus: tuple[Path, ...] = ()
    algebraic_stack: tuple[Path, ...] = ()
    arxiv: tuple[Path, ...] = ()
    github_code: tuple[Path, ...] = ()
    natural_language: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Weights:
    """Shares of the training tokens (section 2.3)."""

    math_corpus: float = MIXTURE["math_corpus"]
    algebraic_stack: float = MIXTURE["algebraic_stack"]
    arxiv: float = MIXTURE["arxiv"]
    github_code: float = MIXTURE["github_code"]
    natural_language: float = MIXTURE["natural_language"]


@dataclass(frozen=True)
class Pretraining:
    """Options of a pretraining run."""

    preset: str
    # a Hugging Face folder, a hub id, or a run of ours; None: the preset's model from random numbers
    init: str | None = CODER_7B
    stage: Literal["all", "tokenize"] = "all"  # tokenize: stop when the windows are there
    sources: Sources = Sources()
    weights: Weights = Weights()
    training: LMTraining = field(default_factory=lambda: replace(DEEPSEEK_MATH_7B, loop=PAPER_LOOP))
    held_out: int = 5  # documents of 10,000 that are only scored
    held_out_windows: int = 256  # of each source, that are scored
    workers: int = os.cpu_count() or 1  # processes that tokenise
    windows: Path | None = None  # folder of the tokenised sources, for several runs; None: windows/ in --out
    export: Path | None = None  # folder of the result in Hugging Face's format; None: model/ in --out
    # such as fsdp=8,tensor=4, or a name (gpu-8, v5p-128; README); left out: every device on fsdp
    mesh: tuple[str, ...] = ()
    out: str = "runs/pretrain_7b"  # the run's folder, or a URL: gs://, s3://, or what else fsspec knows
    rng_seed: int = 0  # of the order of windows, and of random parameters

    def __post_init__(self) -> None:
        weights = asdict(self.weights)
        used = {name: weights[name] for name, paths in asdict(self.sources).items() if paths} or weights
        if not (min(used.values()) >= 0 and sum(used.values()) > 0):
            raise UserError(
                f"--weights of the sources given ({', '.join(f'{name} {weight}' for name, weight in used.items())}): none may "
                "be negative, and one must be above 0"
            )
        if not 1 <= self.held_out < 10_000 or self.held_out_windows < 1:
            raise UserError(
                "--held-out must be from 1 to 9,999 (documents of 10,000), --held-out-windows at least 1"
            )


PAPER_LOOP = replace(DEEPSEEK_MATH_7B.loop, stop_every=500)  # updates between two looks at held-out text
SMALL = {"tiny": TINY, "smoke": SMOKE}  # models of the presets without --init
TINY_RUN = Pretraining(
    preset="tiny",
    init=None,
    weights=replace(Weights(), math_corpus=0.5, github_code=0.5),
    training=LMTraining(
        loop=LoopConfig(steps=400, log_every=20, checkpoint_every=100, stop_every=100),
        optimizer=OptimizerConfig(peak_lr=3e-3, warmup_steps=20),
        batch_size=16,
        window=256,
        micro_batch_rows=8,  # few activations, which stay in a core's cache; 8 devices divide it
        remat="dots",
    ),
    held_out=200,
    held_out_windows=64,
    out="runs/pretrain_tiny",
)
SMOKE_LOOP = LoopConfig(steps=20, log_every=5, checkpoint_every=5, stop_every=10)
SMOKE_RUN = replace(
    TINY_RUN,
    preset="smoke",
    training=replace(
        TINY_RUN.training, loop=SMOKE_LOOP, optimizer=OptimizerConfig(peak_lr=3e-3, warmup_steps=5), window=64
    ),
    out="runs/pretrain_smoke",
)
PRESETS = {config.preset: config for config in (Pretraining("paper"), TINY_RUN, SMOKE_RUN)}


def main(config: Pretraining) -> None:
    mesh = parse_mesh(config.mesh)
    require_shared(config.out, config.windows, jax.process_count())
    sources = {name: paths for name, paths in asdict(config.sources).items() if paths}
    if not sources and config.preset not in SMALL:
        raise UserError("no source: give at least one of --sources.math-corpus, --sources.github-code, ..")
    on_first_process(lambda: [find_parts(paths) for paths in sources.values()])
    start = find_start(config.init, mesh, own=SMALL.get(config.preset))
    start.require_length("--training.window", config.training.window)
    check_rows(config.training, mesh)
    if config.stage == "all":
        require_memory(config.training, start.config, mesh)
        start.require_params(mesh)
    with open_place(config.out, copies=is_first_process()) as place:
        on_first_process(lambda: prepare(config, place, sources, start))
        if config.stage == "tokenize":
            return
        results = train(config, place, start, mesh, list(sources) or list(OWN_SOURCES))
        if is_first_process():
            write_json(place.folder / "results.json", results)
            report(config, place.folder, results)
            print_results(results)
            exported = config.export or f"{config.out}/model"
            print(
                f"{config.out}: report.html, results.json, metrics.jsonl, checkpoints/; for transformers: {exported}"
            )
    wait_for_first_process()


def prepare(
    config: Pretraining,
    place: Place,
    sources: Mapping[str, tuple[Path, ...]],
    start: Start,
) -> None:
    """The run's folder and all that is in it before the first update: one process's work."""
    if config.export:
        require_export_folder(config.export, place.folder)
    forget_unfinished(place.folder, "sources", "tokenizer")
    if config.stage == "tokenize":
        make_windows(config, place, sources, start)
        return
    open_run(place.folder, config, FREE_HERE)
    with preparing(place.folder):
        make_windows(config, place, sources, start)


def make_windows(
    config: Pretraining, place: Place, sources: Mapping[str, tuple[Path, ...]], start: Start
) -> None:
    """The run's tokenizer, and the windows of every source."""
    sources = sources or own_sources(place.folder / "sources")
    tokenizer = tokenizer_file(place.folder, start, lambda: first_texts(sources))
    for name, paths in sources.items():
        tokenize_source(
            paths, tokenizer, config.training.window, windows_of(config, place, name), held_out=config.held_out, workers=config.workers
        )  # fmt: skip
        held_out_text(config, place, name)
    if config.stage == "tokenize":
        return
    names = {name: StoredWindows(windows_of(config, place, name)) for name in sources}
    require_same_windows(place.folder, names)
    keep_shape(start.config, tokenizer, place.folder)


def own_sources(folder: Path) -> dict[str, tuple[Path, ...]]:
    """What every installation has: code of its packages, and worked problems of the generator."""
    import sympy

    problems, file = ProblemSet("train", seed=1), folder / "problems.jsonl"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        texts = (
            f"{one.question}\n{one.solution}"
            for one in islice(map(problems.__getitem__, range(OWN_PROBLEMS)), None)
        )
        write_text(file, "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts))
    packages = Path(sympy.__file__).parent.parent
    own = ((file,), tuple(packages / name for name in OWN_CODE))
    return dict(zip(OWN_SOURCES, own, strict=True))


def first_texts(sources: Mapping[str, tuple[Path, ...]]) -> list[str]:
    """The beginning of each source, for a tokenizer."""
    return [text for paths in sources.values() for text in islice(_texts(paths), TOKENIZER_TEXTS)]


def _texts(paths: tuple[Path, ...]) -> Any:
    return (text for part in find_parts(paths) for text in read_part(part))


def windows_of(config: Pretraining, place: Place, name: str) -> Path:
    return (config.windows or place.folder / "windows") / name


def train(config: Pretraining, place: Place, start: Start, mesh: Mesh, names: list[str]) -> dict[str, Any]:
    """Trains to the end, exports, and scores; the content of results.json."""
    model = start.config
    stored = {name: StoredWindows(windows_of(config, place, name)) for name in names}
    weights = asdict(config.weights)
    mixture = Mixture(
        {name: Source(stored[name], weights[name]) for name in names},
        config.training.batch_size,
        config.rng_seed,
    )
    for name, epochs in mixture.epochs(config.training.loop.steps).items():
        if is_first_process():
            print(f"{name}: {stored[name].manifest['tokens']:,} tokens, {epochs:.2g} epochs")
    held = {name: held_out_text(config, place, name) for name in names}
    score = make_scorer(model, mesh, config.training.rows_at_once)

    def scores(params: Params) -> dict[str, dict[str, float]]:
        return {name: score(params, text) for name, text in held.items()}

    def look(params: Params, step: int) -> tuple[bool, dict[str, float]]:
        found = scores(params)
        return False, {
            f"held_out/{name}/{key}": value for name in found for key, value in found[name].items()
        }

    params = train_lm(
        config.training, model, mesh, batch=mixture.batch, start=lambda: start.params(mesh, config.rng_seed),
        folder=place.folder, checkpoints_in=place.checkpoints, description="pretrain", stop=look, rng_seed=config.rng_seed,
    )  # fmt: skip
    if folder := config.export:
        on_first_process(lambda: claim_export_folder(folder, place.folder))
    save_hf(Model(model, params), config.export or place.folder / "model", place.folder / CHECKPOINTS / SHAPE)
    counted = {name: list(islice(iter(_each(one)), UNIGRAM_WINDOWS)) for name, one in stored.items()}
    return {
        "steps": config.training.loop.steps,
        "tokens": config.training.loop.steps * config.training.batch_size * config.training.window,
        "held_out": scores(params),
        "unigram": unigram(counted, held, model.vocab_size),
    }


def held_out_text(config: Pretraining, place: Place, name: str) -> HeldOut:
    """The first windows of a source that are held out. UserError where there are none."""
    folder = windows_of(config, place, name)
    stored = StoredWindows(folder / HELD_OUT)
    if not len(stored):
        raise UserError(
            f"--held-out {config.held_out} of 10,000 documents: none of the {StoredWindows(folder).manifest['documents']:,} "
            f"of --sources.{name.replace('_', '-')}; hold out more, or give the source more text"
        )
    return first_windows(stored, config.held_out_windows)


def _each(stored: StoredWindows) -> Any:
    return (stored[i] for i in range(len(stored)))


HEADER = ("source", "bits per byte", "unigram's", "ratio", "perplexity")


def scores_table(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each source."""
    rows = []
    for name, found in results["held_out"].items():
        ours, theirs = found["bits_per_byte"], results["unigram"][name]["bits_per_byte"]
        rows.append(
            (name, f"{ours:.3f}", f"{theirs:.3f}", f"{ours / theirs:.2f}", f"{found['perplexity']:.2f}")
        )
    return rows


def print_results(results: dict[str, Any]) -> None:
    table = Printed(
        box=SIMPLE_HEAD, title=f"held-out text after {results['steps']} steps, {results['tokens']:,} tokens"
    )
    for header in HEADER:
        table.add_column(header, justify="left" if header == "source" else "right")
    for row in scores_table(results):
        table.add_row(*row)
    Console().print(table)


def report(config: Pretraining, out: Path, results: dict[str, Any]) -> None:
    lead = f"{results['tokens']:,} tokens in {results['steps']:,} updates, from {config.init or 'random numbers'}"
    about = (
        "Text that was never trained on, a share of each source. The unigram model knows only how frequent each token is in "
        "the training windows; a ratio below 1 is what the model has learned beyond that."
    )
    section = Section("Held-out text", (about, Table(HEADER, tuple(scores_table(results)))))
    write_training_report(out, "Pretraining", lead, [section], read_metrics(out / "metrics.jsonl"))


if __name__ == "__main__":
    run_script(main, PRESETS)
