"""Solutions whose steps are to be labelled: sampled from a model and graded, or read from files.

Of a problem's solutions those of the same text count once, and those that never end not at all: their last step would
have no end. A sampled solution keeps its tokens, so that its steps are cut where the model cut them.
Left out on purpose: labels (labelling.py), and files of a run (run.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from dsm_jax.data.instructions import find_sft_parts, read_rows_of
from dsm_jax.data.prompts import prompt_text
from dsm_jax.errors import UserError
from dsm_jax.evaluate.grader import grade_many
from dsm_jax.processes import from_first_process
from dsm_jax.rl.shepherd.config import Shepherd
from dsm_jax.rl.shepherd.counts import PoolCounts
from dsm_jax.sample.request import Completion, Request, require_answers
from dsm_jax.sample.sampler import Sampler

FIELDS = ("question", "answer", "completion")  # of a file's rows


@dataclass(frozen=True)
class Solution:
    """What a model wrote behind a problem's prompt, to its own end."""

    completion: str
    right: bool
    tokens: tuple[int, ...] = ()  # as it was sampled, without the end of sequence; (): not known


@dataclass(frozen=True)
class Pool:
    """A problem and its solutions, each of another text."""

    question: str
    answer: str
    prompt: str  # what is completed, the template included
    task: str
    solutions: tuple[Solution, ...]
    tokenizer: str = ""  # the fingerprint of the one that made the solutions' tokens


def sample_pools(
    sampler: Sampler, problems: Sequence[Mapping[str, Any]], config: Shepherd, *, first: int = 0
) -> tuple[list[Pool], PoolCounts]:
    """The solutions of problems, rows {question, answer, prompt, task}; a problem without any has no pool.

    first: the place of the first problem among all of them, which names it for the random keys.
    """
    tokenizer = sampler.tokenizer
    asked = [[tokenizer.bos_id, *tokenizer.encode(row["prompt"])] for row in problems]
    fitting = [i for i, ids in enumerate(asked) if len(ids) + 2 <= sampler.config.max_seq_len]
    found = sampler.generate([request_of(sampler, asked[i], config, first + i) for i in fitting])
    require_answers(found)
    pairs = [(one.text, problems[i]["answer"]) for i, of in zip(fitting, found, strict=True) for one in of]
    right = graded(pairs)
    pools, left = [], len(problems) - len(fitting)
    counts = PoolCounts(problems=left, too_long=left)
    for i, completions in zip(fitting, found, strict=True):
        solutions, of_problem = _kept(completions, [next(right) for _ in completions], tokenizer.eos_id)
        counts = counts + of_problem
        if solutions:
            pools.append(_pool(problems[i], solutions, tokenizer.fingerprint))
    return pools, counts


def _pool(row: Mapping[str, Any], solutions: tuple[Solution, ...], tokenizer: str) -> Pool:
    return Pool(row["question"], row["answer"], row["prompt"], row.get("task", ""), solutions, tokenizer)


def graded(pairs: Sequence[tuple[str, str]]) -> Iterator[bool]:
    """Whether each (response, gold answer) is right, as the first process says, in all."""
    if not pairs:
        return iter(())
    said = from_first_process(
        lambda: bytes(bool(verdict.correct) for verdict in grade_many(pairs, mode="strict"))
    )
    return map(bool, said)


def request_of(sampler: Sampler, ids: list[int], config: Shepherd, name: int) -> Request:
    """What samples the solutions of a problem of these prompt tokens; its name is for the random keys."""
    return Request(
        ids,
        n=config.solutions,
        max_new_tokens=min(config.max_new_tokens, sampler.config.max_seq_len - len(ids)),
        temperature=config.temperature,
        top_p=config.top_p,
        seed=config.rng_seed,
        prompt_id=name,
    )


def _kept(
    completions: Sequence[Completion], right: Sequence[bool], eos_id: int
) -> tuple[tuple[Solution, ...], PoolCounts]:
    found: dict[str, Solution] = {}
    finished = [(one, good) for one, good in zip(completions, right, strict=True) if one.finished]
    for one, good in finished:
        tokens = tuple(token for token in one.tokens.tolist() if token != eos_id)
        found.setdefault(one.text, Solution(one.text, good, tokens))
    kept = tuple(one for one in found.values() if one.completion.strip())
    return kept, PoolCounts(
        problems=1,
        sampled=len(completions),
        unfinished=len(completions) - len(finished),
        repeated=len(finished) - len(found),
        kept=len(kept),
        right=sum(one.right for one in kept),
        empty=not kept,
        tokens=sum(len(one.tokens) for one in completions),
    )


def read_pools(paths: Sequence[Path], instruction: str = "") -> Iterator[tuple[Pool | None, PoolCounts]]:
    """Pools of solutions that people have: files and folders of rows {question, answer, completion}, maybe with a task.

    Rows of one question that stand one behind the other are one problem's; elsewhere the question is another problem, which
    shares nothing with it. A completion is what stands behind the prompt: where it does not begin with white space it gets
    the template's space. None: a problem of which nothing is left. instruction: what the prompt has behind the question.
    Raises UserError for a row without a field (file:line).
    """
    rows = (_checked(place, row) for part in find_sft_parts(paths) for place, row in read_rows_of(part))
    for (question, answer, task), of in groupby(rows, itemgetter("question", "answer", "task")):
        given = [row["completion"] for row in of]
        distinct = dict.fromkeys(given)
        texts = [text for text in distinct if text.strip()]
        verdicts = [one.correct for one in grade_many([(text, answer) for text in texts], mode="strict")]
        if None in verdicts:
            yield None, PoolCounts(problems=1, sampled=len(given), unscored=1)
            continue
        solutions = tuple(Solution(text, bool(good)) for text, good in zip(texts, verdicts, strict=True))
        counts = PoolCounts(
            problems=1, sampled=len(given), repeated=len(given) - len(distinct), kept=len(texts),
            right=sum(one.right for one in solutions), empty=not texts,
        )  # fmt: skip
        pool = Pool(question, answer, prompt_text(question + instruction), task, solutions)
        yield pool if texts else None, counts


def fingerprint(paths: Sequence[Path]) -> str:
    """A short name of what these files and folders hold."""
    found, digest = (path for part in find_sft_parts(paths) for path in part.paths), hashlib.sha256()
    for path in found:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:  # a folder is a dataset's
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:16]


def _checked(place: str, row: Any) -> dict[str, str]:
    missing = [
        name for name in FIELDS if not isinstance(row, dict) or not isinstance(row.get(name), str | int)
    ]
    if missing:
        raise UserError(f"{place}: no {missing[0]} in this row; give {', '.join(FIELDS)}, texts")
    text = str(row["completion"])
    return {
        "question": str(row["question"]),
        "answer": str(row["answer"]),
        "completion": text if text[:1].isspace() else f" {text}",
        "task": str(row.get("task", "")),
    }


# A pool as a row of JSON


def pool_row(pool: Pool) -> dict[str, Any]:
    return asdict(pool)


def pool_of(row: Mapping[str, Any]) -> Pool:
    solutions = tuple(Solution(**one | {"tokens": tuple(one["tokens"])}) for one in row["solutions"])
    return Pool(**{**row, "solutions": solutions})
