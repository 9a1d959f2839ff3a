r"""grade(): whether a response's final answer equals the gold answer. The reward of RL and the verdict of the harness.

Modes: strict (an answer marker is needed), flexible (else the last formula or number counts), deepseek (the published rules,
for comparable numbers). Extraction is extract.py, comparison equal.py, the published rules deepseek.py. Nearly every pair is
decided here; the few that need symbolic mathematics go to workers (pool.py). Any text gets a verdict; text is never executed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dsm_jax.errors import UserError
from dsm_jax.evaluate.grader import deepseek
from dsm_jax.evaluate.grader.equal import same_answer
from dsm_jax.evaluate.grader.extract import find, find_gold, last_boxes, readings
from dsm_jax.evaluate.grader.normalise import MAX_ANSWER, as_text
from dsm_jax.evaluate.grader.pool import MAX_WORKERS, shared_pool
from dsm_jax.evaluate.grader.same import Undecided

MODES = ("strict", "flexible", "deepseek")
TIMEOUT_S = 1.0  # of symbolic mathematics, for a pair


@dataclass(frozen=True, slots=True)
class Verdict:
    """`correct` is None where the gold answer cannot be scored; `extracted` is the answer as written."""

    correct: bool | None
    extracted: str | None
    reason: str


def grade(
    response: str,
    gold: str,
    *,
    mode: str = "strict",
    timeout_s: float = TIMEOUT_S,
    options: Sequence[str] = (),
) -> Verdict:
    """Whether the response's final answer equals the gold answer.

    The gold answer may be bare ("3/4"), boxed, or a solution that ends in a marker. timeout_s bounds symbolic mathematics, which
    few pairs need. options: the texts of a multiple choice, A first, so that an option's text answers for its letter.
    Raises UserError for an unknown mode only.
    """
    found = _verdict(response, gold, mode, options)
    return found if isinstance(found, Verdict) else found.ask(timeout_s)


def grade_many(
    pairs: Iterable[tuple[str, str]],
    *,
    mode: str = "strict",
    timeout_s: float = TIMEOUT_S,
    options: Sequence[Sequence[str]] | None = None,
    on_done: Callable[[], None] = lambda: None,
) -> list[Verdict]:
    """Verdicts of (response, gold) pairs in their order; those that need symbolic mathematics are worked on side by side.

    options: those of each pair. on_done is called once for each pair, from this thread. Raises UserError for an unknown mode only.
    """
    pairs = list(pairs)
    found = []
    for place, (response, gold) in enumerate(pairs):
        found.append(_verdict(response, gold, mode, options[place] if options else ()))
        if isinstance(found[-1], Verdict):
            on_done()
    open_places = [place for place, one in enumerate(found) if isinstance(one, _Open)]
    if open_places:
        with ThreadPoolExecutor(MAX_WORKERS) as threads:
            asked = threads.map(lambda place: found[place].ask(timeout_s), open_places)  # type: ignore[union-attr]
            for place, verdict in zip(open_places, asked, strict=True):
                found[place] = verdict
                on_done()
    return found  # type: ignore[return-value]


def extract(response: str, *, mode: str = "strict") -> str | None:
    """The response's final answer as it stands in the text, None where there is none."""
    _check_mode(mode)
    if mode == "deepseek":
        return ", ".join(deepseek.extract(response)) or None
    return find(response, mode)[0]


def is_boxed(response: str) -> bool:
    """Whether the response ends in an answer: its last `\\boxed{` is closed and not empty."""
    return bool(last_boxes(response)[0])


@dataclass(frozen=True, slots=True)
class _Open:
    """A pair that takes symbolic mathematics."""

    extracted: str
    answer: str
    gold: str
    options: tuple[str, ...]

    def ask(self, timeout_s: float) -> Verdict:
        equal = shared_pool().decide(self.answer, self.gold, self.options, timeout_s)
        reason = "not decided in time" if equal is None else "equal" if equal else "different"
        return Verdict(bool(equal), self.extracted, reason)


def _verdict(response: str, gold: str, mode: str, options: Sequence[str]) -> Verdict | _Open:
    _check_mode(mode)
    if not isinstance(gold, str):  # many files have numbers there
        gold = "" if gold is None else str(gold)
    if not isinstance(response, str):
        return Verdict(False, None, f"the response is {type(response).__name__}, no text")
    if mode == "deepseek":
        return _published(response, gold)
    wanted = find_gold(gold)
    if len(wanted) > MAX_ANSWER or not as_text(wanted):
        return Verdict(None, find(response, mode)[0], "the gold answer is empty or too long")
    extracted, reason = find(response, mode)
    if extracted is None:
        return Verdict(False, None, reason)
    unmarked = mode == "flexible" and find(response, "strict")[0] is None
    for reading in readings(extracted) if unmarked else [extracted]:
        try:
            if same_answer(reading, wanted, tuple(options)):
                return Verdict(True, extracted, "equal")
        except Undecided:
            return _Open(extracted, reading, wanted, tuple(options))
    return Verdict(False, extracted, "different")


def _published(response: str, gold: str) -> Verdict:
    wanted = deepseek.extract(gold) if "boxed" in gold else [gold]
    answers = deepseek.extract(response)
    extracted = ", ".join(answers) or None
    if not wanted or not deepseek.stripped(wanted[-1][:MAX_ANSWER]):
        return Verdict(None, extracted, "the gold answer is empty")
    correct = deepseek.is_correct(answers, wanted)
    return Verdict(correct, extracted, "equal" if correct else "different" if answers else "no answer")


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise UserError(f"grade: mode {mode} is unknown, use one of: {', '.join(MODES)}")
