"""A reward model from DeepSeekMath-Base 7B (DeepSeekMath, section 4.2), or from any Llama-shaped model.

    python experiments/reward_model_7b.py --mesh --data LABELS.jsonl MATH_SHEPHERD.jsonl
    python experiments/reward_model_7b.py --mesh --init DIR_OR_HUB_ID_OR_RUN --kind outcome --data LABELS.jsonl
    python experiments/reward_model_7b.py --mesh --preset tiny    1M parameters, worked problems with wrong steps

Solutions whose steps are labelled (label_steps_7b.py writes them; Math-Shepherd's records are read too) train a score at the
end of each step, or with --kind outcome one at the last token. A share of the questions is held out: the loss on their
solutions and how well their steps are told apart is written as training goes on. The same command goes on where a killed run
was. The run's folder holds config.json, metrics.jsonl, tb/, checkpoints/, results.json, report.html and model/, which
grpo_7b.py takes as --reward process:DIR. Several processes (a pod's hosts) run the same command on a disk that all see.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import jax
from jax.sharding import Mesh
from own_tokenizer import tokenizer_file
from reward_model_report import measured, print_results, report, told
from small_model import STEPS_MODEL, SYMBOLS, questions
from worked_solutions import worked_solutions

from dsm_jax.cli import run_script
from dsm_jax.data.corpus import require_same_windows
from dsm_jax.data.prompts import COT_INSTRUCTION, prompt_text
from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh
from dsm_jax.model import Model
from dsm_jax.model.config import SMOKE, TINY
from dsm_jax.model.decoder import Params
from dsm_jax.place import Place, open_place, require_shared
from dsm_jax.processes import first_process_finds, is_first_process, on_first_process, wait_for_first_process
from dsm_jax.rl.reward_model.examples import Examples, make_examples
from dsm_jax.rl.reward_model.folder import find_form, save_form, save_reward_model
from dsm_jax.rl.reward_model.form import FILE, Form, Kind
from dsm_jax.rl.reward_model.readout import scalar_head, start_params, two_tokens
from dsm_jax.rl.reward_model.score import RewardModel
from dsm_jax.rl.reward_model.train import (
    DEEPSEEK_MATH_7B,
    EPOCHS,
    check_training,
    held_out_metrics,
    make_scorer,
    of_epochs,
    train_reward_model,
)
from dsm_jax.rl.steps.labelled import Labelled, read_labelled
from dsm_jax.rl.steps.segments import Splitting, step_ends
from dsm_jax.run import (
    claim_export_folder,
    forget_unfinished,
    open_run,
    preparing,
    read_json,
    require_export_folder,
    write_json,
)
from dsm_jax.tokenizer import load_tokenizer
from dsm_jax.train.lm import FREE, LMTraining, check_rows
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.memory import require_memory
from dsm_jax.train.optimizer import OptimizerConfig
from dsm_jax.train.start import CHECKPOINTS, SHAPE, Start, find_start, keep_shape

BASE_7B = "deepseek-ai/deepseek-math-7b-base"
SMALL = {"tiny": TINY, "smoke": SMOKE}  # models of the presets without --init
FREE_HERE = (*FREE, "--out", "--export", "--mesh")  # they change no result
TOKENIZER_SOLUTIONS = 3_000  # for a model without a tokenizer
RESULTS = "results.json"  # in the run's folder
SPLIT = 1_000  # solutions whose steps are compared with --splitting


@dataclass(frozen=True)
class RewardModelling:
    """Options of a reward model's training."""

    preset: str
    # a Hugging Face folder, a hub id, or a run of ours; None: the preset's model from random numbers
    init: str | None = BASE_7B
    # files of labelled solutions; none: worked problems of the generator, some steps wrong (tiny, smoke)
    data: tuple[Path, ...] = ()
    # what policies are asked with, for rows that have only a question (all but ours): User: ..INSTRUCTION, Assistant:
    template: bool = True
    instruction: str = COT_INSTRUCTION["en"]
    kind: Kind = "process"  # a score at the end of each step, or one for the outcome
    # tokens: the score is the logit of --plus less that of --minus; scalar: an output column of its own, which begins as
    # zero, or as --init's where that is a reward model of this kind
    head: Literal["tokens", "scalar"] = "tokens"
    plus: str = "+"  # a text that is one token
    minus: str = "-"
    splitting: Splitting = "lines"  # into steps, of solutions that are scored without the ends of theirs
    step_tag: str | None = (
        None  # text behind each step, where the score is read then, as " ки"; None: at its last token
    )
    training: LMTraining = DEEPSEEK_MATH_7B
    epochs: float = (
        EPOCHS  # passes over the windows, which give the number of updates; 0: training.loop.steps updates
    )
    problems: int = 8_000  # of the generator, where there is no --data
    held_out: int = 200  # questions of 10,000 that are not trained on; 0: none
    most_held_out: int = 2_000  # solutions of theirs that are scored, at most
    export: Path | None = None  # folder of the result; None: model/ in --out
    # such as fsdp=8,tensor=4, or a name (gpu-8, v5p-128; README); left out: every device on fsdp
    mesh: tuple[str, ...] = ()
    out: str = "runs/reward_model_7b"  # the run's folder, or a URL: gs://, s3://, or what else fsspec knows
    rng_seed: int = 0  # of the order of windows, of the generator's problems, and of random parameters

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 10_000:
            raise UserError(
                f"--held-out is {self.held_out}; it must be from 0 to 9,999 (questions of 10,000)"
            )
        if not 0 <= self.epochs < float("inf"):
            raise UserError(f"--epochs is {self.epochs}; it must be at least 0")
        for name, least in {"problems": 1, "most_held_out": 1, "rng_seed": 0}.items():
            if getattr(self, name) < least:
                raise UserError(
                    f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least {least}"
                )


TINY_RUN = RewardModelling(
    preset="tiny",
    init=None,
    instruction="",
    training=LMTraining(
        loop=LoopConfig(steps=300, log_every=20, checkpoint_every=100, stop_every=100),
        optimizer=OptimizerConfig(peak_lr=2e-3, warmup_steps=20, schedule="cosine"),
        batch_size=16,
        window=256,
        micro_batch_rows=8,  # few activations, which stay in a core's cache; 8 devices divide it
        remat="dots",
    ),
    epochs=1.5,
    held_out=500,
    out="runs/reward_model_tiny",
)
SMOKE_RUN = replace(
    TINY_RUN,
    preset="smoke",
    training=replace(
        TINY_RUN.training,
        loop=LoopConfig(steps=20, log_every=5, checkpoint_every=5, stop_every=10),
        optimizer=OptimizerConfig(peak_lr=2e-3, warmup_steps=5),
        window=128,
    ),
    epochs=0.0,
    problems=300,
    most_held_out=64,
    out="runs/reward_model_smoke",
)
PRESETS = {config.preset: config for config in (RewardModelling("paper"), TINY_RUN, SMOKE_RUN)}


def main(config: RewardModelling) -> None:
    mesh = parse_mesh(config.mesh)
    require_shared(config.out, None, jax.process_count())
    if not config.data and config.preset not in SMALL:
        raise UserError(
            "no solutions: give --data FILES of solutions whose steps are labelled (label_steps_7b.py writes them)"
        )
    start = find_start(config.init, mesh, own=SMALL.get(config.preset))
    check(config, start, mesh)
    with open_place(config.out, copies=is_first_process()) as place:
        on_first_process(lambda: begin(config, place.folder, start))
        with preparing(place.folder):
            work = prepare(config, place.folder, start)
            on_first_process(lambda: keep(place.folder, start, work))
        if not first_process_finds(lambda: is_finished(config, place.folder)):
            results = train(config, place, start, mesh, work)
            on_first_process(lambda: finish(place.folder, results, config))
        if is_first_process():
            print_results(read_json(place.folder / RESULTS))
            print(
                f"{config.out}: report.html, results.json, metrics.jsonl; the reward model: {config.export or 'model/'}"
            )
    wait_for_first_process()


def check(config: RewardModelling, start: Start, mesh: Mesh) -> None:
    """What can be seen before any work."""
    start.require_length("--training.window", config.training.window)
    check_rows(config.training, mesh)
    require_memory(config.training, start.config, mesh)
    start.require_params(mesh)


@dataclass(frozen=True)
class Work:
    """What a run trains on and how, the same in every process."""

    tokenizer: Path
    form: Form
    examples: Examples
    skipped: Mapping[str, int]  # rows of --data that were left out, by reason
    training: LMTraining  # with its number of updates


def begin(config: RewardModelling, out: Path, start: Start) -> None:
    """The run's folder and its tokenizer."""
    if config.export:
        require_export_folder(config.export, out)
    forget_unfinished(out, "tokenizer")
    open_run(out, config, FREE_HERE)
    with preparing(out):
        tokenizer_file(out, start, lambda: first_texts(config), SYMBOLS)


def is_finished(config: RewardModelling, out: Path) -> bool:
    return (out / RESULTS).exists() and (exported(config, out) / FILE).exists()


def exported(config: RewardModelling, out: Path) -> Path:
    return config.export or out / "model"


def finish(out: Path, results: Mapping[str, Any], config: RewardModelling) -> None:
    """report.html and, last, results.json."""
    report(out, results, config.init)
    write_json(out / RESULTS, results)


def prepare(config: RewardModelling, out: Path, start: Start) -> Work:
    """Windows, made anew at each start, and what else is known before the first update. UserError for what cannot be."""
    tokenizer = tokenizer_file(out, start, lambda: first_texts(config), SYMBOLS)
    form, training = form_of(config, start, tokenizer), config.training
    require_splitting(config)
    skipped: Counter[str] = Counter()
    examples = make_examples(
        solutions(config, skipped), form, load_tokenizer(tokenizer), training.window,
        held_out=config.held_out, most_held_out=config.most_held_out,
    )  # fmt: skip
    if config.held_out and not examples.held_out:
        raise UserError(
            f"--held-out {config.held_out} of 10,000 questions: none of these; give more, or 0 to score none"
        )
    if config.epochs:
        training = of_epochs(training, len(examples.train), config.epochs)
    check_training(training, form.readout)
    return Work(tokenizer, form, examples, skipped, training)


def keep(out: Path, start: Start, work: Work) -> None:
    """What a second start is held against, and what another run needs to start from this one."""
    require_same_windows(out, {"solutions": work.examples})
    keep_shape(start.config, work.tokenizer, out)
    save_form(work.form, out / CHECKPOINTS / SHAPE)
    print(told(work.examples.counts, work.skipped))


def require_splitting(config: RewardModelling) -> None:
    """UserError where other steps were labelled than those at which the model will be read, a notice where both differ."""
    if not config.data or config.kind == "outcome":
        return
    first = list(islice(solutions(config), SPLIT))
    agree = {one: sum(step_ends(s.completion, one) == s.ends for s in first) for one in get_args(Splitting)}
    ours, best = config.splitting, max(agree, key=lambda one: agree[one])
    said = f"--splitting {ours} cuts {agree[ours]:,} of the first {len(first):,} solutions where they were labelled"
    if 2 * agree[ours] < agree[best]:
        raise UserError(f"{said}, {best} {agree[best]:,}: give --splitting {best}")
    if 2 * agree[ours] < len(first) and is_first_process():
        print(f"{said}: the model will be read at other places than it learns", file=sys.stderr)


def solutions(config: RewardModelling, skipped: Counter[str] | None = None) -> Iterable[Labelled]:
    """skipped: counts rows of --data that are left out, by reason."""
    if not config.data:
        return generated(config.problems, config.rng_seed)
    if not config.template:
        return read_labelled(config.data, skipped=skipped)
    asked = partial(_asked, config.instruction)
    return read_labelled(config.data, template=asked, skipped=skipped)


def _asked(instruction: str, question: str) -> str:
    return prompt_text(question + instruction)


def generated(problems: int, rng_seed: int) -> Iterator[Labelled]:
    """Worked problems of the small policy whose steps are labelled, some of their steps wrong."""
    return worked_solutions(questions(STEPS_MODEL, "sft", rng_seed), problems, rng_seed)


def first_texts(config: RewardModelling) -> list[str]:
    """Of the first solutions, for a tokenizer."""
    return [one.prompt + one.completion for one in islice(solutions(config), TOKENIZER_SOLUTIONS)]


def form_of(config: RewardModelling, start: Start, tokenizer: Path) -> Form:
    """Where the score is read, of the model that training starts from."""
    loaded, is_scalar = load_tokenizer(tokenizer), config.head == "scalar"
    readout = (
        scalar_head(loaded, start.config) if is_scalar else two_tokens(loaded, config.plus, config.minus)
    )
    return Form(readout, config.kind, config.splitting, config.step_tag)


def train(config: RewardModelling, place: Place, start: Start, mesh: Mesh, work: Work) -> dict[str, Any]:
    """Trains to the end, exports and scores; the content of results.json."""
    out, model = place.folder, start.config
    form, examples, training = work.form, work.examples, work.training
    score = make_scorer(model, mesh, form.readout, training.rows_at_once)

    def first() -> Params:
        before = find_form(start.tokenizer())
        return start_params(
            model, start.params(mesh, config.rng_seed), form.readout, mesh, learned=before and before.readout
        )

    def look(params: Params) -> dict[str, float]:
        if not examples.held_out:
            return {}
        found = held_out_metrics(*score(params, examples.held_out_windows))
        return {f"held_out/{config.kind}/{name}": value for name, value in found.items()}

    params = train_reward_model(
        training, model, mesh, form.readout, examples.train, start=first, folder=out, look=look,
        rng_seed=config.rng_seed, checkpoints_in=place.checkpoints,
    )  # fmt: skip
    if folder := config.export:
        on_first_process(lambda: claim_export_folder(folder, out))
    save_reward_model(Model(model, params), form, exported(config, out), work.tokenizer)
    return {
        "kind": config.kind,
        "head": config.head,
        "steps": training.loop.steps,
        "epochs": training.loop.steps * training.batch_size / len(examples.train),
        "examples": examples.counts,
        "skipped": dict(work.skipped),
        "last": look(params),
        "held_out": measured(
            RewardModel(Model(model, params), form, load_tokenizer(work.tokenizer)), examples.held_out
        ),
    }


if __name__ == "__main__":
    run_script(main, PRESETS)
