"""Questions with gold answers, for RL: GSM8K, MATH, and files of other sets.

- gsm8k:DIR, math:DIR: one split in that folder, "train" where no other is asked for
- hub:OWNER/NAME or hub:OWNER/NAME/CONFIGURATION: that split of a data set on the Hugging Face hub (data/hub_dataset.py)
- a path: a file or folder of JSON lines, JSON or parquet, packed or not; rows that say they are of another split are left out
A row has a question (one of QUESTIONS) and an answer (one of ANSWERS; a worked solution must end in a marked answer), or
messages, the last of which is the answer. Its other fields stay, for rewards. A row that the grader cannot score, a
question without text and one that stood before are left out, with the reason counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dsm_jax.data.hub_dataset import find_hub_split
from dsm_jax.data.instructions import QUESTIONS, find_sft_parts, find_split, read_rows_of
from dsm_jax.data.texts import Part
from dsm_jax.errors import UserError
from dsm_jax.evaluate.grader import extract, grade

LOCAL, HUB = ("gsm8k", "math"), "hub"  # what stands before the colon
SHORT = ("final_answer", "expected_answer", "answer", "target", "gt")
WORKED = ("solution", "completion", "response", "output")  # with a marker before the answer
ANSWERS = (*SHORT, *WORKED)
TRAIN, TEST = "train", "test"


def read_questions(
    source: str, *, split: str = TRAIN, only: Sequence[str] = (), skipped: Counter[str] | None = None
) -> list[dict[str, Any]]:
    """Rows {question, answer, the row's other fields}, in the order of the files.

    only: parts of the field `source`, one of which a row has to hold ("CoT/gsm8k"); not of GSM8K and MATH, which are what
    they are called. skipped: counts what is left out, by reason. Raises UserError naming file and line for a row that has no
    question or answer, and where nothing is left.
    """
    skipped = Counter() if skipped is None else skipped
    only = () if source.partition(":")[0] in LOCAL else only
    found: dict[str, dict[str, Any]] = {}
    for part in _parts(source, split):
        for place, row in read_rows_of(part):
            for question in _questions(row, place):
                reason = _reason(question, split, only) or (
                    "stood before" if question["question"] in found else ""
                )
                if reason:
                    skipped[reason] += 1
                else:
                    found[question["question"]] = question
    if not found:
        why = ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "no rows"
        raise UserError(f"{source}: no question is left ({why})")
    return list(found.values())


def has_test(source: str) -> bool:
    """Whether it names a set with a test split: GSM8K and MATH have to have one, files have none."""
    kind, _, where = source.partition(":")
    return kind in LOCAL or (kind == HUB and bool(find_hub_split(where, TEST)))


def name_of(source: str) -> str:
    """What rows without a field `source` are said to be from: the set, or the file."""
    kind, _, rest = source.partition(":")
    return rest if kind == HUB else kind if kind in LOCAL else Path(source).name


def _parts(source: str, split: str) -> list[Part]:
    kind, _, where = source.partition(":")
    if kind == HUB:
        parts = find_hub_split(where, split)
        missing = f"no split {split}; give a set or files that have it"
    elif kind in LOCAL:
        parts = find_split(Path(where).expanduser(), split)
        missing = f"no {split}.jsonl (or .json, .gz, .zst) and no folder {split} in it"
    else:
        return find_sft_parts([Path(source).expanduser()])
    if not parts:
        raise UserError(f"{source}: {missing}")
    return parts


def _questions(row: Any, place: str) -> Iterator[dict[str, Any]]:
    if not isinstance(row, dict):
        raise UserError(f"{place}: a row must be an object, not {row!r:.40}")
    if isinstance(row.get("Instances"), list):
        for instance in row["Instances"]:
            yield from _questions(instance, place)
        return
    asked, answer = _of_messages(row, place) if "messages" in row else _of_fields(row, place)
    rest = {name: value for name, value in row.items() if name not in ("messages", *QUESTIONS)}
    yield rest | {"question": asked.strip(), "answer": answer.strip()}


def _of_fields(row: dict[str, Any], place: str) -> tuple[str, str]:
    asked, _ = _field(row, QUESTIONS, "question", place)
    answer, name = _field(row, ANSWERS, "answer", place)
    if name in WORKED and extract(answer) is None:
        answer = ""  # which of its numbers is the answer, nobody can say
    return asked, answer


def _field(row: dict[str, Any], known: Sequence[str], what: str, place: str) -> tuple[str, str]:
    """The first field of these that is there: its text, and its name."""
    name = next((name for name in known if name in row), None)
    if name is None:
        there = ", ".join(map(str, row))[:80]
        raise UserError(
            f"{place}: no {what} in this row (it has {there}); it must have one of {', '.join(known)}"
        )
    if not isinstance(row[name], str | int | float):
        raise UserError(f"{place}: its {name} is {row[name]!r:.40}; it must be text or a number")
    return str(row[name]), name


def _of_messages(row: dict[str, Any], place: str) -> tuple[str, str]:
    texts = [one.get("content") for one in row["messages"] if isinstance(one, dict)]
    match texts[-2:]:
        case [str(asked), str(answer)]:
            return asked, answer
    raise UserError(f"{place}: its messages must be a question and an answer, texts in `content`")


def _reason(question: dict[str, Any], split: str, only: Sequence[str]) -> str:
    """Why a question is left out, or nothing."""
    if only and not any(part in str(question.get("source", "")) for part in only):
        return "of other sources"
    there = question.get("split")
    if there is not None and str(there).lower() != split:
        return f"split {there!s:.20}"
    if not question["question"]:
        return "without a question"
    return "" if grade("", question["answer"]).correct is not None else "without an answer that can be graded"
