r"""Rows of benchmarks as they are published, each into the fields of a problem (benchmarks.py).

Texts stay as they are but for white space around them (not around programs); options lose their letters, for
a prompt to put its own.
Left out on purpose: finding and opening files; what the answers mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LETTERS = "ABCDEFGHIJ"
MBPP_TEST = range(11, 511)  # task ids; the others are for prompts and training
_OPTION = re.compile(r"^\s*\(?([A-J])[).:]\s*")
_NEXT_OPTION = re.compile(r"(?:^|(?<=\s))\(?([A-J])[).]\s*")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*")

Fields = dict[str, Any]


class RowError(Exception):
    """What is wrong with a row; the reader adds its place."""


@dataclass(frozen=True)
class Row:
    """A row of a file: its place for messages, its number from 0 on in the file."""

    place: str
    file: Path
    number: int
    values: Mapping[str, Any]

    def text(self, *names: str) -> str:
        """The first of these fields that is there. Raises RowError where none is."""
        for name in names:
            if (value := self.values.get(name)) is not None:
                return _text(value)
        raise RowError(f"no {' or '.join(names)} in this row")

    def optional(self, *names: str) -> str:
        """The same, or "" where none is there."""
        return self.text(*names) if any(self.values.get(name) is not None for name in names) else ""

    def raw(self, name: str) -> str:
        """A program or formal text, whose white space counts. Raises RowError where there is none."""
        if not isinstance(value := self.values.get(name), str):
            raise RowError(f"no {name} in this row")
        return value

    def items(self, *names: str) -> list[Any]:
        """The first of these fields that is a list. Raises RowError where none is."""
        for name in names:
            if isinstance(value := self.values.get(name), Sequence) and not isinstance(value, str):
                return list(value)
        raise RowError(f"no list {' or '.join(names)} in this row")


def any_question(row: Row) -> Fields:
    """A file of one's own: a question, and what there is of options, answer and solution."""
    options = row.items("options", "choices") if row.values.keys() & {"options", "choices"} else []
    question = row.text("question", "problem", "prompt", "input", "text")
    return _named(row, "id") | {
        "question": question,
        "language": "zh" if re.search("[\u4e00-\u9fff]", question) else "en",
        "answer": row.optional("answer", "target"),
        "solution": row.optional("solution"),
        "options": tuple(_strip_options(options)),
    }


def gsm8k(row: Row) -> Fields:
    solution = row.text("cot", "answer")
    worked, mark, final = solution.rpartition("####")
    if not mark and "cot" not in row.values:
        raise RowError("no #### and number at the end of its answer")
    answer = final if mark else row.text("answer")
    return {
        "question": row.text("question"),
        "answer": answer.strip(),
        "solution": (worked if mark else solution).strip(),
    }


def math_problem(row: Row) -> Fields:
    """MATH: a file a problem in the folder of its subject, or rows of one file."""
    solution = row.optional("solution")
    answer = row.optional("answer") or last_box(solution)
    if not answer:
        raise RowError(r"neither an answer nor a \boxed{} in its solution")
    file = f"{row.file.parent.name}/{row.file.stem}" if row.file.stem.isdigit() else ""
    return (
        _named(row, "unique_id", "id")
        | ({"id": file} if file else {})
        | {
            "question": row.text("problem", "question"),
            "answer": answer,
            "solution": solution,
            "subject": row.optional("type", "subject"),
            "level": row.optional("level").removeprefix("Level "),
        }
    )


def sat(row: Row) -> Fields:
    options = row.values.get("options")
    split = _split_options(options) if isinstance(options, str) else _strip_options(row.items("options"))
    return _named(row, "id") | _choice(row.text("question"), split, row.text("Answer", "answer"))


def ocw(row: Row) -> Fields:
    return _named(row, "id") | {
        "question": row.text("problem"),
        "answer": row.text("answer"),
        "solution": row.optional("solution"),
        "subject": row.optional("type"),
    }


def mmlu(row: Row) -> Fields:
    """A table's row, or one of MMLU-STEM with a list of options, or with choices and the answer's index."""
    options = (
        [row.text(letter) for letter in "ABCD"] if "A" in row.values else row.items("options", "choices")
    )
    answer = row.values.get("answer")
    if isinstance(answer, int) and 0 <= answer < min(len(options), len(LETTERS)):
        answer = LETTERS[answer]
    subject = row.optional("topic", "subject") or row.file.stem.removesuffix("_test")
    name = f"{subject}/{row.number}" if "id" not in row.values else row.text("id")
    texts = [_text(option) for option in options]
    return {"id": name, "subject": subject} | _choice(row.text("question"), texts, _text(answer))


def cmath(row: Row) -> Fields:
    fields = {
        "question": row.text("question"),
        "answer": row.text("golden", "answer"),
        "level": row.optional("grade"),
    }
    return _named(row, "id") | fields


def mgsm(row: Row) -> Fields:
    """A table's (question, answer), or a question as the first of its messages."""
    question = row.optional("question")
    if not question:
        first = row.items("messages")[:1]
        if not first or not isinstance(first[0], dict) or not isinstance(first[0].get("content"), str):
            raise RowError("no question, and no text in its first message")
        question = first[0]["content"].strip()
    return _named(row, "id") | {"question": question, "answer": row.text("answer_number", "answer")}


def agieval(row: Row) -> Fields:
    """A choice with a label, or a question with an answer; the file is the subject."""
    subject = row.file.name.split(".")[0]
    passage = row.optional("passage")
    question = f"{passage}\n{row.text('question')}" if passage else row.text("question")
    language = "zh" if re.match(r"gaokao(?!.english)|jec|logiqa.zh", subject) else "en"
    fields = {"id": f"{subject}/{row.number}", "subject": subject, "language": language}
    if row.values.get("options"):
        label = row.values.get("label")
        letters = "".join(map(_text, label)) if isinstance(label, list) else row.text("label")
        return fields | _choice(question, _strip_options(row.items("options")), letters)
    return fields | {"question": question, "answer": row.text("answer")}


def gaokao(row: Row) -> Fields:
    return agieval(row) | {"id": str(row.number), "subject": "", "language": "zh"}


def svamp(row: Row) -> Fields:
    body = row.text("Body")
    if not body.endswith((".", "?", "!", ",")):
        body += "."
    fields = {
        "question": f"{body} {row.text('Question')}",
        "answer": row.text("Answer"),
        "subject": row.optional("Type"),
    }
    return _named(row, "ID") | fields


def multiarith(row: Row) -> Fields:
    solutions = row.values.get("lSolutions")
    answer = (
        _text(solutions[0]) if isinstance(solutions, list) and solutions else row.text("target", "final_ans")
    )
    return _named(row, "iIndex") | {"question": row.text("input", "sQuestion", "question"), "answer": answer}


def minif2f(row: Row) -> Fields:
    return _named(row, "problem_name", "id") | {
        "question": row.text("informal_statement"),
        "answer": "",
        "solution": row.optional("informal_proof"),
        "extra": {"formal_statement": row.raw("formal_statement"), "header": row.raw("header")},
    }


def bbh(row: Row) -> Fields:
    subject = row.file.stem
    question = {"question": row.text("input"), "answer": row.text("target")}
    return {"id": f"{subject}/{row.number}", "subject": subject} | question


def humaneval(row: Row) -> Fields:
    return _named(row, "task_id") | {
        "question": row.raw("prompt"),
        "answer": "",
        "solution": row.raw("canonical_solution"),
        "extra": {"test": row.raw("test"), "entry_point": row.text("entry_point")},
    }


def mbpp(row: Row) -> Fields:
    """{} for a task of another split."""
    number = row.text("task_id").rpartition("/")[2]
    if not number.isdigit():
        raise RowError(f"its task_id {number!r:.20} has no number")
    if int(number) not in MBPP_TEST:
        return {}
    imports = row.items("test_imports") if row.values.get("test_imports") else []
    setup = row.optional("test_setup_code") or "\n".join(map(_text, imports))
    return _named(row, "task_id") | {
        "question": row.text("text", "prompt"),
        "answer": "",
        "solution": row.raw("code"),
        "extra": {"test": "\n".join(map(_text, row.items("test_list"))), "setup": setup},
    }


def last_box(text: str) -> str | None:
    r"""What stands in the last \boxed{} or \fbox{}, or behind "\boxed "; None without one that ends."""
    box = max(_BOX.finditer(text), key=re.Match.start, default=None)
    if box is None:
        return None
    rest = text[box.end() :]
    if not rest.startswith("{"):
        return re.split(r"[\s$]", rest, maxsplit=1)[0]
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", rest):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return rest[1 : brace.start()].strip()
    return None


def _text(value: Any) -> str:
    """As text; whole numbers without a point. NaN is what became of the word None in published tables."""
    if isinstance(value, float) and math.isnan(value):
        return "None"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int | float):
        raise RowError(f"{value!r:.40} where a text or number belongs")
    return str(value).strip()


def _named(row: Row, *names: str) -> Fields:
    name = row.optional(*names)
    return {"id": name} if name else {}


def _choice(question: str, options: Sequence[str], answer: str) -> Fields:
    if len(options) > len(LETTERS):
        raise RowError(f"{len(options)} options, and {len(LETTERS)} are the most that have letters")
    letters = re.sub(r"[\s,]", "", answer)  # several are right in a few
    if not letters or not set(letters) <= set(LETTERS[: len(options)]):
        raise RowError(f"its answer {answer!r:.20} is no letter of its {len(options)} options")
    return {"question": question, "options": tuple(options), "answer": letters}


def _strip_options(options: Sequence[Any]) -> list[str]:
    """Options without the letters in front, where each has its own."""
    texts = [_text(option) for option in options]
    found = [_OPTION.match(text) for text in texts]
    if all(match and match[1] == letter for match, letter in zip(found, LETTERS, strict=False)):
        return [_OPTION.sub("", text) for text in texts]
    return texts


def _split_options(text: str) -> list[str]:
    """ "A) 1 B) 2" apart, at letters in their order."""
    edges: list[tuple[int, int]] = []
    for found in _NEXT_OPTION.finditer(text):
        if found[1] == LETTERS[len(edges)]:
            edges.append(found.span())
    ends = [*(start for start, _ in edges[1:]), len(text)]
    return [text[start:end].strip() for (_, start), end in zip(edges, ends, strict=True)]
