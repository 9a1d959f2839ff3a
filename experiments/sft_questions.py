"""What a finetuned model is asked at the end of sft_7b.py, and its answers: greedy, graded.

Problems of the generator's test split, or questions of the user's own data that were not trained on. Not a script.
Left out so far: tools while it answers, so that questions whose solutions use them are not asked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from dsm_jax.data.instructions import read_sft
from dsm_jax.data.problems import Problem, ProblemSet
from dsm_jax.data.prompts import prompt_ids, prompt_text
from dsm_jax.data.tokenize import held_out_by_hash
from dsm_jax.evaluate.grader import is_boxed
from dsm_jax.evaluate.harness import answer_problems, greedy_scores
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.sample.sampler import Sampler
from dsm_jax.tokenizer import Tokenizer

FAMILIES, LEVELS = ("chains", "calculations", "equations", "rates"), (1,)  # of the generator's problems
ANSWERS = Path("answers/greedy.jsonl")  # in the run's folder


@dataclass(frozen=True)
class Question:
    """A held-out question and its reference answer, as evaluate/harness.py reads them."""

    id: str
    family: str
    level: int
    question: str
    answer: str


Asked = Sequence[Question | Problem]


def held_out_questions(
    data: Sequence[Path], held_out: int, count: int, tokenizer: Tokenizer, longest: int
) -> Asked:
    """Up to `count` questions whose prompt has at most `longest` tokens.

    data: the files that are trained on, none for the generator's problems; held_out: of 10,000 questions, as in
    tokenize_sft.
    """
    if not count or (data and not held_out):
        return []
    every = _of_data(data, held_out) if data else iter(ProblemSet("test", FAMILIES, LEVELS).distinct(count))
    asked = list(islice((one for one in every if len(prompt_ids(one.question, tokenizer)) <= longest), count))
    if not asked:
        print(
            f"no question is asked: none of those held out is answered in words, in a box, and has up to {longest} tokens",
            file=sys.stderr,
        )
    return asked


def ask(
    model: ModelConfig,
    params: Params,
    tokenizer: Tokenizer,
    mesh: Mesh,
    questions: Asked,
    out: Path,
    max_new_tokens: int,
) -> dict[str, Any]:
    """The shares that are right, and that end by themselves in a box, with intervals; the answers are kept in `out`."""
    if not questions:
        return {}
    sampler = Sampler(model, tokenizer, mesh)
    sampler.load(params)
    rows = answer_problems(
        sampler, questions, out / ANSWERS, prompt=prompt_text, max_new_tokens=max_new_tokens,
        description="answer held-out questions",
    )  # fmt: skip
    return {name: asdict(value) for name, value in greedy_scores(rows).items()}


def _of_data(data: Sequence[Path], held_out: int) -> Iterator[Question]:
    """Each held-out question once, with its first solution in words that ends in a box."""
    seen: set[str] = set()
    for record in read_sft(data):
        question, answer = record.question, record.turns[-1].text
        if question in seen or record.kind != "cot" or not is_boxed(answer):
            continue
        if held_out_by_hash(question.encode("utf-8", "replace"), held_out):
            seen.add(question)
            yield Question(f"held-out-{len(seen)}", record.kind, 0, question, answer)
