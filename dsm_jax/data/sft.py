"""Supervised finetuning records, and their tokens: the template, loss on the answers only, tool outputs masked.

A record is a conversation; one question and its answer is the shortest. Targets are the assistant's turns and the end of
sequence behind each. Within an answer, a fenced block of tool output,

    ```output
    18
    ```

is the model's up to and with its opening words (prompts.TOOL_STOP: writing them is how it asks for the tool); the rest,
from the line break behind them to the line break behind the closing fence, is the sandbox's, in the context and not
a target (prompts.tool_text). Every piece is encoded apart, prompts included: training sees the ids that sampling
makes, and no token is half a target, whatever the tokenizer merges. (One that puts a space before every text puts
it before each piece, in training and sampling alike.)
Several examples share a window without seeing each other (DeepSeekMath, section 3, concatenates up to 4K and
does not say whether its examples attend to each other; ours do not).
Left out on purpose: files (instructions.py, tokenize_sft.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dsm_jax.chat import ChatTemplate
from dsm_jax.data.prompts import TOOL_STOP, turns_text
from dsm_jax.data.windows import Example, Packed, pack_examples
from dsm_jax.errors import UserError
from dsm_jax.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant")
KINDS = ("cot", "pot", "tool", "chat")  # words, a program, programs with their outputs, a conversation
# A line that opens a block of tool output (its words only), or one that closes any block.
FENCE = re.compile(rf"^(?:({TOOL_STOP})|```)(?=[^\S\n]*$)", re.MULTILINE)
ANY_FENCE = re.compile(r"^```(\S*)[^\S\n]*$", re.MULTILINE)
# The fences of an answer in the form of ToRA, a letter each (p a named one, o of output, c none): rounds of a program and
# its output. A named fence within a block is text, "```output" within a program is not.
ROUNDS = re.compile(r"(?:p+co[po]*c)*")
PROGRAM = re.compile(
    r"^(?:```python\s*$|import [\w.]+(?: as \w+)?\s*$|from [\w.]+ import |def \w+\(.*:\s*$|print\(.*\)\s*$)",
    re.MULTILINE,
)


class Turn(NamedTuple):
    """What one side says; role is one of ROLES."""

    role: str
    text: str


class Piece(NamedTuple):
    """A part of an answer; is_target: the model writes it."""

    text: str
    is_target: bool


@dataclass(frozen=True)
class Record:
    """A conversation that ends with an answer, and its kind, one of KINDS."""

    kind: str
    turns: tuple[Turn, ...]

    @property
    def question(self) -> str:
        """What the user says first: records with the same one are solutions of one problem."""
        return next((turn.text for turn in self.turns if turn.role == "user"), "")


def make_record(turns: Sequence[Turn]) -> Record:
    """A record of the kind that its turns show."""
    return Record(_kind(turns), tuple(turns))


def qa_record(question: str, answer: str) -> Record:
    """A record of one question and its answer."""
    return make_record([Turn("user", question), Turn("assistant", answer)])


def answer_pieces(answer: str) -> list[Piece]:
    """The answer in pieces, which joined are the answer: the model's, and between them what a tool inserted."""
    pieces, at = [], 0
    for start, end in _tool_outputs(answer):
        end = len(answer) if end is None else end
        pieces += [Piece(answer[at:start], True), Piece(answer[start:end], False)]
        at = end
    if at < len(answer) or not pieces:
        pieces.append(Piece(answer[at:], True))
    return pieces


def is_open(answer: str) -> bool:
    """Whether a block of tool output never closes: where it ends cannot be known."""
    return any(end is None for _, end in _tool_outputs(answer))


def is_unclear(answer: str) -> bool:
    """Whether there is tool output, and the answer's fences are not those of programs, each with its output behind it.

    Then a fence may be part of an output, and where that ends cannot be known.
    """
    names = ANY_FENCE.findall(answer)
    letters = "".join("c" if not name else "o" if f"```{name}" == TOOL_STOP else "p" for name in names)
    return "o" in letters and not ROUNDS.fullmatch(letters)


def _tool_outputs(answer: str) -> list[tuple[int, int | None]]:
    """(start, end) of each stretch that a tool inserted; end None where it never closes."""
    found: list[tuple[int, int | None]] = []
    opened: int | None = None
    for fence in FENCE.finditer(answer):
        if opened is None and fence[1]:
            opened = fence.end()
        elif opened is not None and not fence[1]:
            line_end = answer.find("\n", fence.end())
            found.append((opened, len(answer) if line_end < 0 else line_end + 1))
            opened = None
    return found if opened is None else [*found, (opened, None)]


def encode_record(record: Record, tokenizer: Tokenizer, template: ChatTemplate | None = None) -> Example:
    """`bos User: {q}\n\nAssistant: {a} eos User: ..`, of which " {a}" less its tool outputs, and eos, are targets.

    template: the model's own instead: its ids up to where it asks for an answer, then as targets what it writes from there
    to eos, in which the answer stands in its pieces. Raises UserError where it changes an answer, or what it writes
    before one does not begin with all that came before: no sampler would see such a text.
    """
    if template is not None:
        return _encode_with(record, tokenizer, template)
    ids = [tokenizer.bos_id]
    is_target = [False]
    for context, answer in _exchanges(record.turns):
        context_ids = tokenizer.encode(context)
        ids += context_ids
        is_target += [False] * len(context_ids)
        first, *others = answer_pieces(answer)
        pieces = [Piece(f" {first.text}", first.is_target), *others]
        _add_answer(pieces, tokenizer.encode, tokenizer.eos_id, ids, is_target)
    return Example(ids, is_target)


def encode_example(question: str, answer: str, tokenizer: Tokenizer) -> Example:
    """A question and its answer; see encode_record."""
    return encode_record(qa_record(question, answer), tokenizer)


def sft_windows(pairs: Iterable[tuple[str, str]], tokenizer: Tokenizer, length: int) -> Packed:
    """Windows of `length` tokens of (question, answer) pairs, and how many pairs were too long for one.

    Errors: UserError where no pair fits.
    """
    packed = pack_examples((encode_example(q, a, tokenizer) for q, a in pairs), length)
    if not packed.windows:
        raise UserError(
            f"no SFT example fits into {length} tokens ({packed.dropped} were too long): give examples, "
            "or a longer window"
        )
    return packed


def _encode_with(record: Record, tokenizer: Tokenizer, template: ChatTemplate) -> Example:
    ids: list[int] = []
    is_target: list[bool] = []
    messages = [{"role": turn.role, "content": turn.text} for turn in record.turns]
    done = ""  # all up to the last answer's end
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        context = template.marked(messages[:i])
        if not context.startswith(done):
            raise _refusal(template, "rewrites earlier turns", record)
        context_ids = template.encode(context)[len(template.encode(done)) :]
        ids += context_ids
        is_target += [False] * len(context_ids)
        written = template.marked(messages[: i + 1], add_generation_prompt=False)
        if not written.startswith(context):
            raise _refusal(template, "writes an answer behind other words than it asks with", record)
        pieces = _written_pieces(written[len(context) :], message["content"], tokenizer, template)
        if pieces is None:
            raise _refusal(template, "changes what an answer says", record)
        _add_answer(pieces, template.encode, tokenizer.eos_id, ids, is_target)
        done = context + "".join(piece.text for piece in pieces) + template.token(tokenizer.eos_id)
    return Example(ids, is_target)


def _written_pieces(
    written: str, answer: str, tokenizer: Tokenizer, template: ChatTemplate
) -> list[Piece] | None:
    """The answer's pieces and what the template writes before and behind it, up to the end of sequence; None where the
    template writes something else than the answer."""
    marked, eos = template.mark(answer), template.token(tokenizer.eos_id)
    if eos not in written or template.encode(eos) != [tokenizer.eos_id]:
        raise UserError(
            f"{template.folder}: its chat template does not end an answer with the tokenizer's end of sequence"
        )
    before, found, rest = written.partition(marked)
    behind, end, _ = rest.partition(eos)
    if not found or not end:
        return None
    first, *others = answer_pieces(marked)
    *pieces, last = [Piece(before + first.text, True), *others]
    if last.is_target:
        return [*pieces, Piece(last.text + behind, True)]
    return [*pieces, last, *([Piece(behind, True)] if behind else [])]


def _refusal(template: ChatTemplate, what: str, record: Record) -> UserError:
    return UserError(
        f"{template.folder}: its chat template {what} (the conversation that begins with {record.question!r:.60}): "
        "finetune in the template of DeepSeekMath, or on single answers"
    )


def _add_answer(
    pieces: Sequence[Piece],
    encode: Callable[[str], list[int]],
    eos_id: int,
    ids: list[int],
    is_target: list[bool],
) -> None:
    for piece in pieces:
        encoded = encode(piece.text)
        ids += encoded
        is_target += [piece.is_target] * len(encoded)
    ids.append(eos_id)
    is_target.append(True)


def _exchanges(turns: Sequence[Turn]) -> Iterator[tuple[str, str]]:
    """(the template's text up to an answer, the answer) of every answer."""
    before: list[Turn] = []
    for turn in turns:
        if turn.role == "assistant":
            yield turns_text(before), turn.text
            before = []
        else:
            before.append(turn)


def _kind(turns: Sequence[Turn]) -> str:
    if [turn.role for turn in turns] != ["user", "assistant"]:
        return "chat"
    answer = turns[-1].text
    if _tool_outputs(answer):
        return "tool"
    return "pot" if PROGRAM.search(answer) else "cot"
