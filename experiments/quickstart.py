"""The whole of DeepSeekMath on this machine: mine, tokenise, pretrain, SFT, GRPO, evaluate, report.

    python experiments/quickstart.py                      8 to 10 minutes on 2 CPU cores
    python experiments/quickstart.py --full               with the controls (noise rewards, SFT continued), Math-Shepherd
                                                          and GRPO with its process rewards: 25 to 30 minutes
    python experiments/quickstart.py --stage mine --warc crawl/*.warc.gz --seed seed.jsonl --out runs/mine

The same command goes on where a killed run was. The run's folder holds results.json, report.html, the mined
corpus (mine/), every stage's metrics and checkpoints, and the answers of every model (eval/).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jax.sharding import Mesh
from quickstart_report import write_quickstart_report
from quickstart_results import collect, print_table
from quickstart_supervision import SMOKE as SMOKE_SUPERVISION
from quickstart_supervision import Supervised, Supervision
from small_model import (
    SMOKE_MODEL,
    TINY_MODEL,
    SmallModel,
    finetune,
    held_out,
    make_tokenizer,
    pretrain,
    questions,
)

from dsm_jax.cli import run_script
from dsm_jax.data.prompts import prompt_text
from dsm_jax.errors import UserError
from dsm_jax.evaluate.harness import Answers, answer_problems
from dsm_jax.mesh import batch_shards, parse_mesh, single_device_mesh
from dsm_jax.mine.config import PRESETS as MINE
from dsm_jax.mine.config import MineConfig
from dsm_jax.mine.corpus.decontaminate import BenchmarkText
from dsm_jax.mine.corpus.export import read_corpus
from dsm_jax.mine.loop.seed import read_examples
from dsm_jax.mine.package_corpus import mine_package_docs
from dsm_jax.mine.package_docs import DocsConfig
from dsm_jax.mine.pipeline import Examples, Sources, mine
from dsm_jax.mine.tasks import Spread
from dsm_jax.mine.web.read import check_warcs
from dsm_jax.model import Model, save_hf
from dsm_jax.model.decoder import Params
from dsm_jax.model.params import check_mesh
from dsm_jax.processes import require_one_process
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.controls import random_rewards, shuffled_rewards
from dsm_jax.rl.grpo import GRPO, run_grpo
from dsm_jax.rl.prompts import problem_prompts
from dsm_jax.rl.reward_functions import accuracy_reward
from dsm_jax.rl.reward_model.score import RewardModel
from dsm_jax.rl.scoring import AnyReward
from dsm_jax.run import CONFIG, DONE, is_done, open_run, read_json, write_json
from dsm_jax.sample.sampler import Sampler
from dsm_jax.train.lm import check_rows

EXPORT = "model"  # folder of the GRPO model in Hugging Face's format
PLANTED = 20  # held-out problems put into crawled pages, to see that decontamination finds them


@dataclass(frozen=True)
class Evaluation:
    """How the models are compared on held-out problems."""

    problems: int = 1_000  # answered greedily
    sampled_problems: int = 250  # answered `samples` times, for maj@k and pass@k
    samples: int = 8  # k
    temperature: float = 0.7  # of those samples; the paper's for its maj@K and pass@K figures

    def __post_init__(self) -> None:
        if not 1 <= self.sampled_problems <= self.problems:
            raise UserError(
                f"--evaluation.sampled-problems is {self.sampled_problems}; it must be from 1 to --evaluation.problems, "
                f"{self.problems}"
            )
        if self.samples < 1 or not self.temperature > 0:
            raise UserError("--evaluation.samples must be at least 1, --evaluation.temperature above 0")


@dataclass(frozen=True)
class Quickstart:
    """Options of the quickstart."""

    preset: str
    mine: MineConfig
    docs: DocsConfig
    small: SmallModel
    evaluation: Evaluation = Evaluation()
    supervision: Supervision = Supervision()
    out: Path = Path("runs/quickstart")  # the run's folder
    stage: Literal["all", "mine"] = "all"  # mine: stop when the corpus is there
    warc: tuple[Path, ...] = ()  # WARC files to mine; none: the documentation of the installed packages
    seed: Path | None = None  # JSONL of {text} or {url}: the mathematical seed for --warc
    # also train the controls, with as many steps as GRPO; and label steps, train a process reward model, and GRPO with it
    full: bool = False
    mesh: tuple[str, ...] = ()  # such as fsdp=2,tensor=2; bare or left out: the first device alone
    workers: int = 0  # Grain worker processes of the mining stage; the bytes are the same
    rng_seed: int = 0  # of everything random


DEMO = Quickstart(
    preset="demo",
    mine=MINE["quickstart"],
    docs=DocsConfig(pages_per_package=250),
    small=TINY_MODEL,
)
SMOKE = replace(
    DEMO,
    preset="smoke",
    mine=MINE["smoke"],
    docs=DocsConfig(40, ("absl", "etils", "mpmath", "packaging", "rich", "sympy", "tyro")),
    small=SMOKE_MODEL,
    evaluation=Evaluation(problems=32, sampled_problems=8, samples=4),
    supervision=SMOKE_SUPERVISION,
    out=Path("runs/smoke"),
)
CONTROLS = {"random_reward": random_rewards, "shuffled_reward": shuffled_rewards}
PROCESS = "process_reward"  # the policy that a process reward model has trained
PRESETS = {config.preset: config for config in (DEMO, SMOKE)}


def main(config: Quickstart) -> None:
    mesh = check(config)
    # What decides the results: another folder, a part of the run, another mesh or more workers do not.
    open_run(config.out, replace(config, out=Path(), stage="all", full=False, mesh=(), workers=0))
    if (results := finished(config)) is not None:
        print_table(results)
        return
    phase = partial(timed, config.out / "seconds.json")
    with phase("mine"), forgotten_without_work(config.out):
        funnel, corpus = run_mining(config)
    if config.stage == "mine":
        print(
            f"{funnel['pages_kept']} of {funnel['pages_in']} pages kept: {config.out / 'mine'}/corpus, scores.jsonl.gz"
        )
        return
    results = Training(config, corpus, mesh, phase).run(funnel)
    write_json(config.out / "results.json", results)
    write_quickstart_report(config.out, results)
    print_table(results)
    print(
        f"report: {config.out / 'report.html'}; the GRPO model in Hugging Face's format: {config.out / EXPORT}"
    )


def check(config: Quickstart) -> Mesh:
    """Everything about the options that can be seen before any work; the mesh."""
    if config.seed and not config.warc:
        raise UserError(
            "--seed is for --warc: the package documentation has its own seed; give both or neither"
        )
    if config.warc and not config.seed:
        raise UserError("--warc needs --seed FILE: JSONL rows {text} or {url} of mathematical pages")
    if config.mine.rng_seed:
        raise UserError(f"--mine.rng-seed {config.mine.rng_seed}: give --rng-seed, the seed of every stage")
    if config.workers < 0:
        raise UserError(f"--workers {config.workers}: must be 0 or more")
    if not 0 <= config.rng_seed < 2**31:
        raise UserError(f"--rng-seed {config.rng_seed}: must be from 0 to 2147483647")
    if config.seed:
        check_warcs(config.warc)
        read_examples("--seed", [config.seed], config.mine.max_seed_pages)
    held_out(config.small, config.evaluation.problems)
    mesh = parse_mesh(config.mesh) if config.mesh else single_device_mesh()
    require_one_process("quickstart.py")
    rows = {
        "--small.pretrain.batch-size": config.small.pretrain.batch_size,
        "--small.sft.batch-size": config.small.sft.batch_size,
    }
    for option, count in rows.items():
        if count % batch_shards(mesh):
            raise UserError(
                f"{option} {count} does not divide over the {batch_shards(mesh)} devices of data x fsdp: change it, or "
                "give --mesh with more devices on tensor"
            )
    check_rows(config.supervision.reward_model, mesh)
    if (window := config.supervision.reward_model.window) > config.small.model.max_seq_len:
        raise UserError(
            f"--supervision.reward-model.window {window} is longer than the model's {config.small.model.max_seq_len} tokens"
        )
    check_mesh(config.small.model, mesh)
    return mesh


def finished(config: Quickstart) -> dict[str, Any] | None:
    """The results of a run that has all that is asked for."""
    path = config.out / "results.json"
    if not path.exists() or not (config.out / "report.html").exists():
        return None
    results = read_json(path)
    wanted = (*CONTROLS, "sft_longer", PROCESS) if config.full else ()
    return results if all(name in results["models"] for name in wanted) else None


@contextmanager
def forgotten_without_work(out: Path) -> Iterator[None]:
    """A mistake found before mining did any work leaves no configuration behind: the corrected command may run."""
    try:
        yield
    except UserError:
        if not (out / "mine" / CONFIG).exists():
            (out / CONFIG).unlink(missing_ok=True)
        raise


@contextmanager
def timed(path: Path, phase: str) -> Iterator[None]:
    """Adds the block's seconds to the phase's in `path`, over restarts too; a `kill -9` loses its block's."""
    start = time.monotonic()
    try:
        yield
    finally:
        seconds = read_json(path) if path.exists() else {}
        seconds[phase] = round(seconds.get(phase, 0.0) + time.monotonic() - start, 1)
        write_json(path, seconds)


def run_mining(config: Quickstart) -> tuple[dict[str, Any], Sequence[str]]:
    """The funnel's numbers and the mined texts."""
    questions = [problem.question for problem in held_out(config.small, config.evaluation.problems)]
    benchmarks = [BenchmarkText("generated", question) for question in questions]
    options, out = replace(config.mine, rng_seed=config.rng_seed), config.out / "mine"
    spread = Spread(config.workers)
    if config.warc:
        sources, examples = Sources(tuple(map(str, config.warc))), Examples((Path(config.seed),))
        mined = mine(options, out, sources, examples, benchmarks=benchmarks, spread=spread)
    else:
        mined = mine_package_docs(options, config.docs, out, benchmarks, questions[:PLANTED], spread)
    return dict(mined.funnel), [record["text"] for record in read_corpus(mined.corpus)]


class Training:
    """The stages after mining, over one mesh and one tokenizer."""

    def __init__(self, config: Quickstart, corpus: Sequence[str], mesh: Mesh, phase: Callable[[str], Any]):

        self.config, self.small, self.corpus, self.phase = config, config.small, corpus, phase
        self.mesh = mesh
        with phase("tokenise"):
            self.tokenizer = make_tokenizer(self.small, corpus, config.out / "tokenizer", config.rng_seed)
        self.sampler = Sampler(self.small.model, self.tokenizer, self.mesh, slots=self.small.grpo.slots)
        self.problems = held_out(self.small, config.evaluation.problems)

    def run(self, funnel: dict[str, Any]) -> dict[str, Any]:
        """Trains and evaluates every model; the content of results.json."""
        models, supervision = self.train()
        answers = {name: self.evaluate(name, params) for name, params in models.items()}
        if not (self.config.out / EXPORT / "config.json").exists():
            tokenizer = self.config.out / "tokenizer" / "tokenizer.model"
            save_hf(Model(self.small.model, models["grpo"]), self.config.out / EXPORT, tokenizer)
        seconds = read_json(self.config.out / "seconds.json")
        seconds |= {"total": round(sum(seconds.values()), 1)}
        return collect(answers, funnel, seconds, supervision)

    def train(self) -> tuple[dict[str, Params], dict[str, Any]]:
        """Parameters by model: base, sft, grpo, and where they are asked for the controls and what process rewards have
        trained; what is known of those rewards."""
        config, out, rng_seed = self.config, self.config.out, self.config.rng_seed
        with self.phase("pretrain"):
            base = pretrain(self.small, self.corpus, self.tokenizer, self.mesh, out / "pretrain", rng_seed)
        tune = partial(finetune, self.small, tokenizer=self.tokenizer, mesh=self.mesh, rng_seed=rng_seed)
        with self.phase("sft"):
            sft = tune(base=base, folder=out / "sft")
        ended = read_json(out / "sft" / DONE)
        if not ended["stopped"]:
            print(f"warning: SFT ended after {ended['step']} steps below its stop rule", file=sys.stderr)
        models = {"base": base, "sft": sft, "grpo": self.grpo("grpo", sft, self.small.grpo)}
        for name in CONTROLS:
            if config.full or is_done(out / name):  # a finished run keeps its controls without --full too
                models[name] = self.grpo(name, sft, self.small.grpo)
        if config.full or is_done(out / "sft_longer"):
            with self.phase("sft_longer"):
                models["sft_longer"] = tune(
                    base=sft,
                    folder=out / "sft_longer",
                    steps=config.small.grpo.loop.steps,
                    skip=ended["step"],
                )
        if not (config.full or is_done(out / PROCESS)):
            return models, {}
        judge, supervision = self.supervise(sft, models["sft_longer"])
        both = replace(self.small.grpo, process_weight=config.supervision.weight)
        return models | {PROCESS: self.grpo(PROCESS, sft, both, [accuracy_reward, judge])}, supervision

    def supervise(self, sft: Params, completer: Params) -> tuple[RewardModel, dict[str, Any]]:
        """The process reward model: Math-Shepherd's labels of SFT's solutions, and what learns from them."""
        config = self.config
        stages = Supervised(
            config.supervision,
            self.small,
            self.tokenizer,
            self.mesh,
            self.sampler,
            config.out,
            config.rng_seed,
        )
        with self.phase("labels"):
            labels = stages.label(sft, completer)
        with self.phase("reward_model"):
            judge, found = stages.train(sft)
        return judge, {"labels": labels, "reward_model": found, "weight": config.supervision.weight}

    def grpo(
        self,
        name: str,
        params: Params,
        config: GRPOTraining,
        reward: AnyReward | Sequence[AnyReward] = accuracy_reward,
    ) -> Params:
        """GRPO from `params` with these rewards, the true ones by default, or with those of the control `name`."""
        rng_seed = self.config.rng_seed
        fresh = questions(self.small, "grpo", rng_seed)
        grpo = GRPO(
            config,
            self.small.model,
            self.tokenizer,
            self.mesh,
            prompts=problem_prompts(fresh, config.prompts_per_rollout),
            reward=reward,
            control=CONTROLS.get(name),
            rng_seed=rng_seed,
        )
        with self.phase(name):
            return run_grpo(grpo, lambda: params, self.config.out / name, description=name)

    def evaluate(self, name: str, params: Params) -> dict[str, list[Answers]]:
        """The model's answers on held-out problems: `greedy`, and `sampled` for SFT and GRPO with either reward."""
        config, folder = self.config.evaluation, self.config.out / "eval" / name
        ask = partial(
            answer_problems,
            self.sampler,
            prompt=prompt_text,
            max_new_tokens=self.small.grpo.max_completion_length,
        )
        with self.phase("evaluate"):
            self.sampler.load(params)
            answers = {
                "greedy": ask(self.problems, folder / "greedy.jsonl", description=f"evaluate {name}, greedy")
            }
            if name in ("sft", "grpo", PROCESS):
                answers["sampled"] = ask(
                    self.problems[: config.sampled_problems],
                    folder / "sampled.jsonl",
                    n=config.samples,
                    temperature=config.temperature,
                    rng_seed=self.config.rng_seed,
                    description=f"evaluate {name}, {config.samples} samples",
                )
        return answers


if __name__ == "__main__":
    run_script(main, PRESETS)
