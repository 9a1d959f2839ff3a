"""The small model that quickstart.py and grpo_7b.py --preset tiny start from: tokenizer, pretraining, SFT;
and the numbers of its GRPO. STEPS_MODEL is the one of longer solutions, for process supervision.

The 7B's own code path at 1M parameters. Pretraining mixes equations and worked formulas of the train split (drills),
questions without their solutions, and a corpus where there is one; SFT trains on a fixed set of worked solutions and stops at a stated
accuracy, so that GRPO has something left to find. Not a script: the scripts call its functions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jax.sharding import Mesh

from dsm_jax.data.corpus import tokenize_to_windows
from dsm_jax.data.mixture import Mixture, Source
from dsm_jax.data.problems import Problem, ProblemSet, drill
from dsm_jax.data.prompts import prompt_text
from dsm_jax.data.sft import sft_windows
from dsm_jax.errors import UserError
from dsm_jax.evaluate.grader import grade, is_boxed
from dsm_jax.model.config import SMOKE, TINY, ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.model.params import init_params
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.objectives import GRPOConfig
from dsm_jax.sample.request import require_answers
from dsm_jax.sample.sampler import Sampler
from dsm_jax.tokenizer import Tokenizer, load_tokenizer, train_sentencepiece
from dsm_jax.train.lm import LMTraining, train_lm
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.optimizer import OptimizerConfig, make_schedule

SYMBOLS = ("\\boxed{", "}", "+", "-", "*", "/", "=", "(", ")", ".", ",", "?", "%", "User: ", "\n\nAssistant:")
DRILLS_PER_DOCUMENT = 12
QUESTIONS_PER_DOCUMENT = 3
CORPUS_SHARE_FOR_TOKENIZER = 0.1  # of the corpus texts; the problems decide most of 512 pieces


# The split of problems that each use draws from, and its stream there: what GRPO asks is solved nowhere, nor what SFT's stop
# rule, labels of steps and the choice of a learning rate ask.
USES = {
    "tokenizer": ("train", 0),
    "pretrain": ("train", 1),
    "sft": ("train", 2),
    "sft_check": ("rl", 3),
    "grpo": ("rl", 4),
    "labels": ("rl", 0),
    "search": ("rl", 1),
}
LABELLED = 5_000  # problems of "labels" that others stay clear of
STREAMS = 5  # of a split, for each random seed


@dataclass(frozen=True)
class SmallModel:
    """Problems, model and training of the small model, GRPO included."""

    families: tuple[str, ...]  # of problems.FAMILIES
    levels: tuple[int, ...]
    model: ModelConfig
    pretrain: LMTraining
    drill_weight: float  # share of the pretraining windows with equations and worked formulas
    question_weight: float  # share with questions, without solutions
    corpus_weight: float  # share with the mined corpus, where there is one
    sft: LMTraining
    sft_problems: int  # worked solutions in the fixed SFT set
    sft_stop: float  # SFT ends only when greedy accuracy on its check problems is at least this, 0 to 1
    sft_stop_family: float  # SFT ends only when greedy accuracy in every family is at least this, 0 to 1
    sft_stop_boxed: float  # SFT ends only when this share of the answers ends in a box, 0 to 1
    sft_checks: int  # check problems of the rl split, solved nowhere in training
    grpo: GRPOTraining

    def __post_init__(self) -> None:
        for name in ("sft_problems", "sft_checks"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"--small.{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 1"
                )
        for name in ("sft_stop", "sft_stop_family", "sft_stop_boxed"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(
                    f"--small.{name.replace('_', '-')} is {getattr(self, name)}; it must be from 0 to 1"
                )
        weights = (self.drill_weight, self.question_weight, self.corpus_weight)
        if min(weights) < 0 or not sum(weights[:2]) > 0:
            raise UserError(
                "--small.*-weight: none may be negative, and drills or questions must have a share"
            )
        longest = max(self.pretrain.window, self.sft.window, 2 * self.grpo.max_completion_length)
        if longest > self.model.max_seq_len:
            raise UserError(
                f"--small.model.max-seq-len {self.model.max_seq_len} is less than {longest}, the longest window or twice "
                "the longest completion: give more"
            )
        for training in (self.pretrain, self.sft, self.grpo):
            make_schedule(training.optimizer, training.loop.steps)
        ProblemSet("train", self.families, self.levels)


TINY_MODEL = SmallModel(
    families=("chains", "calculations", "equations", "rates"),
    levels=(1,),
    model=TINY,
    pretrain=LMTraining(
        loop=LoopConfig(steps=2_800, log_every=50, checkpoint_every=700),
        optimizer=OptimizerConfig(peak_lr=2e-3, warmup_steps=100),
        batch_size=4,
        window=128,
    ),
    drill_weight=0.65,
    question_weight=0.2,
    corpus_weight=0.15,
    sft=LMTraining(
        loop=LoopConfig(steps=900, log_every=25, checkpoint_every=300, stop_every=10),
        optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=20, schedule="constant"),
        batch_size=8,
        window=128,
    ),
    sft_problems=4_000,
    sft_stop=0.4,
    sft_stop_family=0.15,
    sft_stop_boxed=0.97,
    sft_checks=300,
    grpo=GRPOTraining(
        loop=LoopConfig(steps=150, log_every=1, checkpoint_every=25),
        batch_size=128,
        num_generations=8,
        loss=GRPOConfig(),
        max_completion_length=72,
        optimizer=OptimizerConfig(peak_lr=2e-4, warmup_steps=5, schedule="cosine", weight_decay=0.0),
        micro_batch_tokens=2_048,
        slots=64,
        remat="none",
    ),
)

SMOKE_MODEL = replace(
    TINY_MODEL,
    model=SMOKE,
    pretrain=replace(
        TINY_MODEL.pretrain,
        loop=LoopConfig(steps=40, log_every=10, checkpoint_every=10),
        optimizer=OptimizerConfig(peak_lr=2e-3, warmup_steps=5),
    ),
    sft=replace(TINY_MODEL.sft, loop=LoopConfig(steps=40, log_every=10, checkpoint_every=10, stop_every=20)),
    sft_problems=300,
    sft_checks=32,
    grpo=replace(
        TINY_MODEL.grpo,
        loop=LoopConfig(steps=4, log_every=1, checkpoint_every=1),
        optimizer=replace(TINY_MODEL.grpo.optimizer, warmup_steps=1),
        batch_size=16,
        num_generations=4,
        max_completion_length=32,
    ),
)

# Solutions of four lines in the mean, of which over half are wrong: a policy to supervise step by step.
STEPS_MODEL = replace(
    TINY_MODEL,
    families=("sequences", "averages", "rates"),
    levels=(1, 2),
    pretrain=replace(TINY_MODEL.pretrain, loop=LoopConfig(steps=2_000, log_every=50, checkpoint_every=500)),
    sft=replace(
        TINY_MODEL.sft,
        loop=LoopConfig(steps=2_000, log_every=25, checkpoint_every=250, stop_every=100),
    ),
    sft_problems=20_000,
    sft_stop=0.4,
    sft_checks=200,
    grpo=replace(TINY_MODEL.grpo, max_completion_length=88),
)
# Its completer, which tells right steps from wrong ones by where they lead: the policy's SFT goes on.
STEPS_COMPLETER = replace(
    STEPS_MODEL.sft,
    loop=LoopConfig(steps=3_400, log_every=50, checkpoint_every=500),
    optimizer=OptimizerConfig(peak_lr=1e-3, warmup_steps=20, schedule="cosine"),
    batch_size=4,
)

# Knows its few problems nearly by heart after seconds: some of its completions have to be right.
STEPS_SMOKE_MODEL = replace(
    SMOKE_MODEL,
    families=("chains",),
    pretrain=replace(SMOKE_MODEL.pretrain, loop=LoopConfig(steps=10, log_every=10, checkpoint_every=10)),
    sft=replace(SMOKE_MODEL.sft, loop=LoopConfig(steps=120, log_every=10, checkpoint_every=40)),
    sft_problems=8,
    grpo=replace(SMOKE_MODEL.grpo, max_completion_length=40),
)
STEPS_SMOKE_COMPLETER = replace(
    STEPS_SMOKE_MODEL.sft, loop=LoopConfig(steps=10, log_every=10, checkpoint_every=10)
)


def questions(config: SmallModel, use: str, rng_seed: int) -> ProblemSet:
    """The problems of one use, in a stream of its own."""
    split, stream = USES[use]
    return ProblemSet(split, config.families, config.levels, seed=STREAMS * rng_seed + stream)


def held_out(config: SmallModel, count: int) -> list[Problem]:
    """The test problems, the same for every seed: disjoint by construction from all that is trained on."""
    return ProblemSet("test", config.families, config.levels, seed=0).distinct(count)


def unlabelled(config: SmallModel, count: int) -> list[Problem]:
    """Problems of the split whose solutions are labelled, none with the mathematics of the first LABELLED of these.

    UserError where there are not so many.
    """
    labelled = {one.form for one in questions(config, "labels", 0).distinct(LABELLED)}
    return questions(config, "search", 0).distinct(count, without=labelled)


def make_tokenizer(config: SmallModel, corpus: Sequence[str], folder: Path, rng_seed: int) -> Tokenizer:
    """Trains the tokenizer on problems and a part of the corpus, or loads it when it is there."""
    path = folder / "tokenizer.model"
    if path.exists():
        return load_tokenizer(path)
    folder.mkdir(parents=True, exist_ok=True)
    problems = questions(config, "tokenizer", rng_seed)
    texts = [f"{prompt_text(p.question)} {p.solution}" for p in (problems[i] for i in range(3_000))]
    part = corpus[: int(len(corpus) * CORPUS_SHARE_FOR_TOKENIZER)]
    return train_sentencepiece([*texts, *part], path, vocab_size=config.model.vocab_size, symbols=SYMBOLS)


def pretrain(
    config: SmallModel, corpus: Sequence[str], tokenizer: Tokenizer, mesh: Mesh, folder: Path, rng_seed: int
) -> Params:
    """The base model: drills, questions and corpus in their shares, multi-step schedule."""
    training = config.pretrain
    sources = {
        "drills": (_drills(config, rng_seed), config.drill_weight),
        "questions": (_questions(config, rng_seed), config.question_weight),
        "corpus": (corpus, config.corpus_weight),
    }
    mixture = Mixture(
        {
            name: Source(
                tokenize_to_windows(texts, tokenizer, training.window, folder / "windows" / name), weight
            )
            for name, (texts, weight) in sources.items()
            if texts
        },
        training.batch_size,
        rng_seed,
    )
    return train_lm(
        training,
        config.model,
        mesh,
        batch=mixture.batch,
        start=lambda: init_params(config.model, rng_seed, mesh),
        folder=folder,
        description="pretrain",
        rng_seed=rng_seed,
    )


def finetune(
    config: SmallModel,
    base: Params,
    tokenizer: Tokenizer,
    mesh: Mesh,
    folder: Path,
    rng_seed: int,
    *,
    steps: int | None = None,
    skip: int = 0,
) -> Params:
    """SFT on the fixed set: to the stop rule, or for exactly `steps` updates where they are given.

    skip: batches of the set that `base` has seen already. The optimiser starts anew.
    """
    training, problems = config.sft, questions(config, "sft", rng_seed)
    pairs = [(p.question, p.solution) for p in (problems[i] for i in range(config.sft_problems))]
    windows = sft_windows(pairs, tokenizer, training.window).windows
    mixture = Mixture({"sft": Source(windows, 1.0)}, training.batch_size, rng_seed)
    if steps is not None:
        training = replace(training, loop=replace(training.loop, steps=steps, stop_every=0))
    return train_lm(
        training,
        config.model,
        mesh,
        batch=lambda step, rows: mixture.batch(skip + step, rows),
        start=lambda: base,
        folder=folder,
        description="SFT",
        stop=StopRule(config, tokenizer, mesh, rng_seed) if steps is None else None,
        rng_seed=rng_seed,
    )


class StopRule:
    """SFT's end: greedy accuracy, the worst family's too, and boxed answers on problems solved nowhere in training.

    Every family counts, because GRPO cannot reinforce what is never right. Raises UserError where a family has no
    problem among the checks.
    """

    def __init__(self, config: SmallModel, tokenizer: Tokenizer, mesh: Mesh, rng_seed: int):
        self.config = config
        self.problems = questions(config, "sft_check", rng_seed).distinct(config.sft_checks)
        missing = set(config.families) - {problem.family for problem in self.problems}
        if missing:
            raise UserError(
                f"--small.sft-checks {config.sft_checks}: none of them is of {min(missing)}; give more"
            )
        self.sampler = Sampler(config.model, tokenizer, mesh, slots=config.grpo.slots)

    def __call__(self, params: Params, step: int) -> tuple[bool, dict[str, float]]:
        self.sampler.load(params)
        answers = self.sampler.generate(
            [prompt_text(problem.question) for problem in self.problems],
            max_new_tokens=self.config.grpo.max_completion_length,
            temperature=0.0,
        )
        require_answers(answers)
        right = defaultdict(list)
        for (answer,), problem in zip(answers, self.problems, strict=True):
            right[problem.family].append(bool(grade(answer.text, problem.answer).correct))
        found = {
            "greedy": np.mean([one for family in right.values() for one in family]),
            "worst_family": min(map(np.mean, right.values())),
            "boxed": np.mean([answer.finished and is_boxed(answer.text) for (answer,) in answers]),
        }
        wanted = {
            "greedy": self.config.sft_stop,
            "worst_family": self.config.sft_stop_family,
            "boxed": self.config.sft_stop_boxed,
        }
        metrics = {f"check/{name}": float(value) for name, value in found.items()}
        return all(found[name] >= least for name, least in wanted.items()), metrics


def _drills(config: SmallModel, rng_seed: int) -> list[str]:
    """Documents of equations and worked formulas, more than their share of the run takes."""
    count = _documents(config, config.drill_weight, tokens=120)
    return [
        "\n".join(
            drill(rng_seed, i * DRILLS_PER_DOCUMENT + j, families=config.families, levels=config.levels)
            for j in range(DRILLS_PER_DOCUMENT)
        )
        for i in range(count)
    ]


def _questions(config: SmallModel, rng_seed: int) -> list[str]:
    count, problems = (
        _documents(config, config.question_weight, tokens=90),
        questions(config, "pretrain", rng_seed),
    )
    groups = (range(i * QUESTIONS_PER_DOCUMENT, (i + 1) * QUESTIONS_PER_DOCUMENT) for i in range(count))
    return ["\n\n".join(prompt_text(problems[i].question) for i in group) for group in groups]


def _documents(config: SmallModel, weight: float, tokens: int) -> int:
    """How many documents of `tokens` tokens a share of the run takes, once over."""
    training = config.pretrain
    return max(8, int(weight * training.loop.steps * training.batch_size * training.window / tokens))
