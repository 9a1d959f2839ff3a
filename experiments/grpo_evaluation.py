"""What grpo_7b.py asks its policy on the way: test questions, greedy and sampled, graded; the best policy is kept.

Questions of the generator's test split, of GSM8K's and MATH's, or of files. Answers stay in answers/, a file for each
evaluation, so that a run started again asks nothing twice. Of several processes all answer; the first one grades and
writes. Not a script.
Left out on purpose: few-shot prompts and tools.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sft_questions import Asked, Question

from dsm_jax.data.prompts import prompt_ids, prompt_text
from dsm_jax.errors import UserError
from dsm_jax.evaluate.harness import Answers, answer_problems, greedy_scores, read_answers, sampled_scores
from dsm_jax.evaluate.scores import Interval, paired_difference
from dsm_jax.model import Model, save_hf
from dsm_jax.model.decoder import Params
from dsm_jax.processes import first_process_finds, on_first_process
from dsm_jax.rl.grpo import GRPO
from dsm_jax.rl.prompts import read_all_questions, told
from dsm_jax.rl.questions import TEST
from dsm_jax.run import read_json, write_json
from dsm_jax.tokenizer import Tokenizer

ANSWERS = "answers"  # folder of the run: greedy-STEP.jsonl, sampled-STEP.jsonl
BEST, BEST_SCORE = "best", "best.json"
CHOICE_SEED = 0  # of the questions that are asked: the same for every --rng-seed


@dataclass(frozen=True)
class Sampling:
    """Completions of each question besides the greedy one."""

    count: int  # k of maj@k and pass@k; 0: none
    temperature: float
    rng_seed: int


class Evaluation:
    """Called with (policy, step) it answers the questions, keeps the best policy, and returns the shares.

    tokenizer: its folder, for best/, which is in Hugging Face's format.
    """

    def __init__(
        self,
        grpo: GRPO,
        questions: Asked,
        out: Path,
        *,
        instruction: str,
        sampling: Sampling,
        tokenizer: Path,
    ):
        self.grpo, self.questions, self.out, self.sampler = grpo, questions, out, grpo.actor.sampler
        self.instruction, self.sampling, self.tokenizer = instruction, sampling, tokenizer
        on_first_process(lambda: mend(out / BEST))

    def __call__(self, policy: Params, step: int) -> dict[str, float]:
        self.sampler.load(policy)
        scores = greedy_scores(self._ask("greedy", step, 1, 0.0))
        if k := self.sampling.count:
            scores |= sampled_scores(self._ask("sampled", step, k, self.sampling.temperature), k)
        self.sampler.unload()
        model = Model(self.grpo.model, policy)
        keep_best(model, self.tokenizer, step, scores["greedy"], self.out)
        return {f"eval/{name}": score.value for name, score in scores.items()}

    def _ask(self, kind: str, step: int, n: int, temperature: float) -> list[Answers]:
        return answer_problems(
            self.sampler,
            self.questions,
            self.out / ANSWERS / f"{kind}-{step:06d}.jsonl",
            prompt=lambda question: prompt_text(question + self.instruction),
            max_new_tokens=self.grpo.config.max_completion_length,
            n=n,
            temperature=temperature,
            rng_seed=self.sampling.rng_seed,
            description=f"evaluate after {step} updates, {kind}",
        )


def keep_best(model: Model, tokenizer: Path, step: int, greedy: Interval, out: Path) -> None:
    """Writes best/ and best.json where this score is the highest so far; of equal ones the first stays.

    The folder comes before its score: a run that was killed between them evaluates that step again, and writes both.
    """
    file, fresh = out / BEST_SCORE, out / f"{BEST}.new"

    def put() -> None:
        replace_folder(fresh, out / BEST)
        write_json(file, {"step": step, "greedy": asdict(greedy)})

    if first_process_finds(lambda: file.exists() and read_json(file)["greedy"]["value"] >= greedy.value):
        return
    save_hf(model, fresh, tokenizer)
    on_first_process(put)


def read_test_questions(sources: Sequence[str], count: int) -> list[Question]:
    """Up to `count` questions of the sources (GSM8K's and MATH's test splits), drawn evenly over all of them."""
    skipped: Counter[str] = Counter()
    rows = read_all_questions(sources, skipped, split=TEST)
    print(f"evaluation: asks {min(count, len(rows)):,} of {told(len(rows), skipped)}")
    chosen = np.sort(np.random.default_rng(CHOICE_SEED).permutation(len(rows))[:count])
    return [
        Question(f"test-{i}", str(rows[i]["source"]), 0, rows[i]["question"], rows[i]["answer"])
        for i in chosen
    ]


def answerable(questions: Asked, tokenizer: Tokenizer, instruction: str, longest: int) -> Asked:
    """Those whose prompt has at most `longest` tokens. UserError where there are none."""
    found = [one for one in questions if len(prompt_ids(one.question + instruction, tokenizer)) <= longest]
    if not found:
        raise UserError(
            f"--eval-questions: each has a prompt of more than {longest} tokens; lower --grpo.max-completion-length"
        )
    if left := len(questions) - len(found):
        print(f"evaluation: {left:,} of them are longer than {longest} tokens and not asked")
    return found


def evaluation_results(out: Path, k: int) -> dict[str, Any]:
    """Scores of every evaluation in the run's folder, the first, last and best, and the gain; {} where there are none.

    k: samples of a question, 0 for none.
    """
    steps = sorted(int(file.stem.split("-")[1]) for file in (out / ANSWERS).glob("greedy-*.jsonl"))
    if not steps:
        return {}
    rows = {step: read_answers(out / ANSWERS / f"greedy-{step:06d}.jsonl") for step in steps}
    scores = {step: greedy_scores(rows[step]) for step in steps}
    for step in steps if k else ():
        scores[step] |= sampled_scores(read_answers(out / ANSWERS / f"sampled-{step:06d}.jsonl"), k)
    every = [{"step": step} | _plain(scores[step]) for step in steps]
    best = next(one for one in every if one["step"] == read_json(out / BEST_SCORE)["step"])
    first, last = ([row.correct[0] for row in rows[step]] for step in (steps[0], steps[-1]))
    return {
        "questions": len(first),
        "every": every,
        "first": every[0],
        "last": every[-1],
        "best": best,
        "difference": asdict(paired_difference(last, first)),
    }


def _plain(scores: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    return {name: asdict(score) for name, score in scores.items()}


# Folders


def replace_folder(new: Path, folder: Path) -> None:
    """Puts `new` in the place of `folder`. A kill leaves one of the two whole: mend gives it its name again."""
    old = folder.with_name(f"{folder.name}.old")
    if folder.exists():
        os.rename(folder, old)
    os.rename(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def mend(folder: Path) -> None:
    """What a kill inside replace_folder left is made good."""
    old = folder.with_name(f"{folder.name}.old")
    if old.exists() and not folder.exists():
        os.rename(old, folder)
    shutil.rmtree(old, ignore_errors=True)
