"""Tool rounds: a calculator within completions, its mistakes, and rows that pause while others decode."""

import dataclasses
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby

import pytest

from dsm_jax.errors import UserError
from dsm_jax.sample import Completion, Request, Sampler, Tool
from dsm_jax.sample.decoding import Decoding
from tests.sample.models import ONE_LAYER, Letters, assert_same, assert_trainers, sampler_of
from tests.sample.ties import assert_same_or_near_tie

ALPHABET = "0123456789+-*. ="


class Sums(Letters):
    """Writes 16 characters, so that a model with random weights writes sums, and one token in 16 calls the tool."""

    def encode(self, text: str) -> list[int]:
        return [16 + ALPHABET.index(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(ALPHABET[i % 16] for i in ids if i > 2)


def calculate(text: str) -> str:
    """What stands before the last "=", from left to right; "." where that is no sum."""
    found = re.search(r"(\d+(?:[+*-]\d+)*)=$", text)
    if not found:
        return "."
    first, *rest = re.findall(r"^\d+|[+*-]\d+", found[1])
    value = int(first)
    for part in rest:
        number = int(part[1:])
        value = {"+": value + number, "-": value - number, "*": value * number}[part[0]]
    return str(value % 10**6)


CALCULATOR = Tool(calculate, "=")


def asked(count: int, longest: int = 60, **options: object) -> list[Request]:
    chance = random.Random(7)
    return [
        Request(
            [1, *Sums().encode("".join(chance.choices(ALPHABET, k=chance.randint(0, 30))))],
            max_new_tokens=chance.randint(longest // 2, longest),
            seed=i % 4,
            prompt_id=i,
            **options,
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def sampler() -> Sampler:
    return sampler_of(tokenizer=Sums(), slots=16)


def check(request: Request, completion: Completion, tool: Tool) -> int:
    """Every call of the tool is where the text says; its answer is marked, and drawn log-probs are the trainer's."""
    assert_trainers(ONE_LAYER, list(request.prompt), request, completion)
    tokens, before, calls = completion.tokens.tolist(), 0, 0
    ends = (2, *request.stop_token_ids)
    for inserted, run in groupby(completion.inserted.tolist()):
        after = before + len(list(run))
        text = Sums().decode(tokens[:after])
        if inserted:
            calls += 1
            assert Sums().decode(tokens[before:after]) == tool.call(Sums().decode(tokens[:before]))
            assert len(tokens) > after  # something was drawn after it
        else:
            drawn = Sums().decode(tokens[before:after])
            assert tool.stop not in drawn[:-1]
            assert not set(tokens[before : after - 1]) & set(ends)
            if after < len(tokens):
                assert drawn.endswith(tool.stop)
        before = after
    called = text.endswith(tool.stop) and not completion.inserted[-1] and tokens[-1] not in ends
    assert len(tokens) <= request.max_new_tokens and calls <= tool.max_rounds
    if called or tokens[-1] in ends:  # neither stands in the text
        assert completion.text == Sums().decode(tokens[:-1])
    else:
        assert completion.text == text and len(tokens) == request.max_new_tokens
    by_itself = tokens[-1] in ends or (called and calls == tool.max_rounds)
    assert completion.finish_reason == ("stop" if by_itself else "length")
    return calls


def check_all(sampler: Sampler, requests: Sequence[Request], tool: Tool) -> list[Completion]:
    completions = [row[0] for row in sampler.generate(requests, tool=tool)]
    calls = [check(request, one, tool) for request, one in zip(requests, completions, strict=True)]
    print(f"{sum(calls)} calls for {len(calls)} requests")
    assert sum(calls) >= len(calls) / 2
    return completions


@pytest.mark.parametrize("count", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_a_calculator_for_many_is_what_it_is_for_one(sampler: Sampler, count: int) -> None:
    requests = asked(count)
    together, tied = check_all(sampler, requests, CALCULATOR), 0
    for request, completion in zip(requests, together, strict=True):
        alone = sampler.generate([request], tool=CALCULATOR)[0][0]
        tied += assert_same_or_near_tie(ONE_LAYER, request, completion, alone)
    assert tied <= 2 and {one.finish_reason for one in together} == {"stop", "length"}


def test_a_row_that_ended_behind_its_call_goes_on(sampler: Sampler) -> None:
    """Stop tokens are frequent: many a chunk holds a call and, behind it, an end, which is then not met."""
    ends = [i for i in range(16, 512) if i % 16 == 14 and i % 4 == 2][:23]
    check_all(sampler, asked(60, stop_token_ids=ends), Tool(calculate, "=", max_rounds=20))


def test_the_last_call_ends_the_row(sampler: Sampler) -> None:
    once = Tool(calculate, "=", max_rounds=1)
    completions = check_all(sampler, asked(30), once)
    stopped = [
        one for one in completions if one.inserted.any() and one.finished and one.tokens[-1] % 16 == 15
    ]
    assert len(stopped) > 5 and all(one.text.count("=") == 1 for one in stopped)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 20])
def test_answers_of_any_length(sampler: Sampler, length: int) -> None:
    """Shorter and longer than a chunk of 8 steps."""
    check_all(sampler, asked(16), Tool(lambda text: "1" * length, "="))


def test_an_empty_answer_changes_nothing(sampler: Sampler) -> None:
    """A draw's key is its place: what is drawn again behind the call is what was drawn there before."""
    requests = asked(16)
    with_tool = sampler.generate(requests, tool=Tool(lambda text: "", "=", max_rounds=99))
    cut = 0
    for (ours,), (theirs,) in zip(with_tool, sampler.generate(requests), strict=True):
        if theirs.tokens[-1] % 16 == 15:  # cut at the limit, at a call: that one's text is not shown
            ours, cut = dataclasses.replace(ours, text=theirs.text), cut + 1
        assert_same(ours, theirs)
    assert cut < len(requests)


def test_an_answer_that_does_not_fit_ends_the_row(sampler: Sampler) -> None:
    """One token has to be drawn after it."""
    request = next(one for one in asked(30) if sampler.generate([one], tool=CALCULATOR)[0][0].inserted.any())
    first = sampler.generate([request], tool=CALCULATOR)[0][0]
    called = int(first.inserted.argmax())
    room = (request.max_new_tokens or 0) - called
    (fits,), (not_quite,) = (
        sampler.generate([request], tool=Tool(lambda text, n=n: "1" * n, "="))[0] for n in (room - 1, room)
    )
    assert fits.inserted.sum() == room - 1 and len(fits.tokens) == request.max_new_tokens
    assert not fits.inserted[-1]
    assert not not_quite.inserted.any() and len(not_quite.tokens) == called
    assert not_quite.finish_reason == "length" and not not_quite.error
    assert not_quite.text + "=" == Sums().decode(not_quite.tokens)


def test_stop_strings_count_in_drawn_text_only(sampler: Sampler) -> None:
    """Neither within an answer nor across its end."""
    requests = asked(40, stop=("77", "78"))
    ended = 0
    for (completion,) in sampler.generate(requests, tool=Tool(lambda text: "=77 7", "=")):
        drawn = "".join(
            letter if mark else "#" if letter == "7" else letter.replace("=", "")
            for letter, mark in zip(Sums().decode(completion.tokens), ~completion.inserted, strict=False)
        )
        assert not completion.inserted[-1]
        assert not re.search("7[78]", drawn[:-1])
        ended += bool(re.search("7[78]$", drawn))
    assert ended > 0


def test_text_comes_with_the_answers_in_it(sampler: Sampler) -> None:
    shown: dict[int, str] = {}

    def show(request: int, sample: int, text: str) -> None:
        shown[request] = shown.get(request, "") + text

    for number, _, completion in sampler.stream(asked(16), tool=CALCULATOR, on_text=show):
        assert shown.get(number, "") == completion.text


class Wrong(Exception):
    """A callback's own."""


def hang(text: str) -> str:
    time.sleep(3)
    return "0"


def fail(text: str) -> str:
    raise Wrong("two\nlines")


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (fail, "the tool raised Wrong: two lines"),
        (lambda text: None, "the tool gave NoneType, not text"),
        (lambda text: "\ud800", "the tool raised UnicodeEncodeError: "),
        (hang, "the tool gave no answer within 1 s"),
    ],
    ids=["raises", "no text", "half a character", "hangs"],
)
def test_a_call_that_goes_wrong_ends_its_row_alone(
    sampler: Sampler, wrong: Callable[[str], str], line: str
) -> None:
    first, lock = [True], threading.Lock()

    def call(text: str) -> str:
        with lock:
            mine, first[0] = first[0], False
        return wrong(text) if mine else calculate(text)

    requests = asked(16)
    good = sampler.generate(requests, tool=CALCULATOR)
    bad = 0
    for number, ((ours,), (theirs,)) in enumerate(
        zip(sampler.generate(requests, tool=Tool(call, "=", timeout_s=1.0)), good, strict=True)
    ):
        if not ours.error:
            assert_same(ours, theirs)
            continue
        bad += 1
        assert ours.finish_reason == "error" and ours.error.startswith(f"request {number}: {line}")
        assert "\n" not in ours.error and ours.tokens.tolist() == theirs.tokens[: len(ours.tokens)].tolist()
    assert bad == 1


def test_others_go_through_the_slots_while_a_call_is_under_way(sampler: Sampler) -> None:
    """The first call is answered when all other requests are through; one slot is held for it."""
    ended, first, lock = threading.Semaphore(0), [True], threading.Lock()
    requests = asked(40)

    def call(text: str) -> str:
        with lock:
            mine, first[0] = first[0], False
        for _ in range(len(requests) - 1 if mine else 0):
            assert ended.acquire(timeout=60)
        return calculate(text)

    together = sampler.generate(requests, tool=Tool(call, "="), on_finish=ended.release)
    for (ours,), (theirs,) in zip(together, sampler.generate(requests, tool=CALCULATOR), strict=True):
        assert_same(ours, theirs)


@pytest.mark.slow
def test_rows_in_parts_get_their_own_answers(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the longest prompt and the longest completion, of two requests, do not fit together."""
    requests = [
        dataclasses.replace(request, prompt=[*request.prompt, *Sums().encode("1" * (200 * (i == 0)))])
        for i, request in enumerate(asked(8))
    ]
    requests[1] = dataclasses.replace(requests[1], max_new_tokens=300)
    good = sampler.generate(requests, tool=CALCULATOR)
    alone = sampler_of(tokenizer=Sums(), slots=1)
    needed = []
    for request in requests[:2]:
        alone.reset_usage()
        alone.generate([request])
        needed.append(alone.usage.memory)
    parts: list[int] = []
    monkeypatch.setattr("dsm_jax.sample.sampler.free_everywhere", lambda mesh: max(needed))
    monkeypatch.setattr(
        "dsm_jax.sample.sampler.Decoding", lambda *args: parts.append(len(args[2])) or Decoding(*args)
    )
    for (ours,), (theirs,) in zip(sampler.generate(requests, tool=CALCULATOR), good, strict=True):
        assert_same(ours, theirs)
    assert len(parts) > 1 and sum(parts) == len(requests)


@pytest.mark.slow
def test_caches_grow_and_slots_shrink_while_rows_are_paused() -> None:
    sampler, chance = sampler_of(tokenizer=Sums(), slots=16), random.Random(3)

    def call(text: str) -> str:
        time.sleep(chance.choice([0.0, 0.02, 0.2]))
        return calculate(text)

    requests = asked(40, 300)
    slow = sampler.generate(requests, tool=Tool(call, "=", max_rounds=99))
    quick = check_all(sampler, requests, Tool(calculate, "=", max_rounds=99))
    for (ours,), theirs in zip(slow, quick, strict=True):
        assert_same(ours, theirs)
    assert {"grow", "take"} <= {program.name for program in sampler.usage.programs}


def test_a_tool_needs_a_stop_string_and_sensible_limits() -> None:
    with pytest.raises(UserError, match="stop is empty"):
        Tool(calculate, "")
    with pytest.raises(UserError, match="max_rounds 0"):
        Tool(calculate, "=", max_rounds=0)
