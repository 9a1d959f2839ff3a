"""What the model reads: tokens, places of scores and labels, with and without a tag; windows of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.rl.reward_model.examples import encode, make_examples, read_text, read_tokens
from dsm_jax.rl.reward_model.form import Form
from dsm_jax.rl.reward_model.loss import LABELS, MASK
from dsm_jax.rl.steps.labelled import Labelled
from dsm_jax.rl.steps.segments import step_ends
from tests.rl.reward_model.cases import PLUS_MINUS, TOKENIZER, solutions

FORM = Form(PLUS_MINUS)
TEXT = " a=1\n b=2 \n"
ONE = Labelled("q:", TEXT, step_ends(TEXT), (1.0, 0.25), question="q")


def spelled(ids, places) -> list[str]:
    """What has been read at each place."""
    return [TOKENIZER.decode(ids[: place + 1]) for place in places]


def test_a_step_is_scored_at_its_last_token_and_the_last_one_at_the_end_of_sequence():
    example = encode(ONE, FORM, TOKENIZER)
    assert list(example.ids) == [1, *TOKENIZER.encode("q:" + TEXT), 2]
    assert spelled(example.ids, example.places) == ["q: a=1", "q:" + TEXT]
    assert example.places[-1] == len(example.ids) - 1
    arrays = example.arrays()
    np.testing.assert_array_equal(np.flatnonzero(arrays[MASK]), example.places)
    np.testing.assert_array_equal(arrays[LABELS][example.places], np.float32([1.0, 0.25]))


def test_an_outcome_is_scored_once_with_the_last_label():
    example = encode(ONE, dataclasses.replace(FORM, kind="outcome"), TOKENIZER)
    assert example.places.tolist() == [len(example.ids) - 1] and example.labels.tolist() == [0.25]


def test_sampled_tokens_are_read_as_they_are():
    tokens = [*TOKENIZER.encode(TEXT), 2]
    places = [3, len(tokens) - 1]  # as completion_ends gives them
    ids, at = read_tokens(FORM, TOKENIZER, "q:", tokens, places)
    same = read_text(FORM, TOKENIZER, "q:", TEXT, ONE.ends)
    assert ids == same.ids and at.tolist() == same.places.tolist()
    cut = read_tokens(FORM, TOKENIZER, "q:", tokens[:-3], [3, len(tokens) - 4])  # ended by its length
    assert cut.ids == same.ids[:-3] and cut.places[-1] == len(cut.ids) - 1
    outcome = read_tokens(dataclasses.replace(FORM, kind="outcome"), TOKENIZER, "q:", tokens[:-3], places)
    assert outcome.places.tolist() == [len(cut.ids) - 1]


def test_the_tag_stands_behind_each_step_and_is_where_the_score_is_read():
    tagged = dataclasses.replace(FORM, step_tag=" ##")
    ids, places = read_text(tagged, TOKENIZER, "q:", TEXT, ONE.ends)
    assert ids == [1, *TOKENIZER.encode("q: a=1 ##\n b=2 ##")]
    assert spelled(ids, places) == ["q: a=1 ##", "q: a=1 ##\n b=2 ##"]
    sampled = read_tokens(tagged, TOKENIZER, "q:", [*TOKENIZER.encode(TEXT), 2], [3, 11])
    assert sampled.ids == ids and sampled.places.tolist() == places.tolist()


def test_the_tag_form_is_the_plain_form_of_a_text_that_has_the_tags():
    """But for the end of sequence, which the plain form reads behind the last one."""
    written = " a=1 ##\n b=2 ##"
    plain = read_text(FORM, TOKENIZER, "q:", written, step_ends(written))
    tagged = read_text(dataclasses.replace(FORM, step_tag=" ##"), TOKENIZER, "q:", TEXT, ONE.ends)
    assert [*tagged.ids, 2] == plain.ids and tagged.places[0] == plain.places[0]
    assert tagged.places[1] == plain.places[1] - 1


def test_windows_hold_every_solution_once_and_questions_stay_on_one_side():
    rows = solutions(300) + solutions(300, seed=1)  # two solutions of each question
    examples = make_examples(rows, FORM, TOKENIZER, 64, held_out=2_000)
    counts = examples.counts
    assert counts["solutions"] + counts["held_out_solutions"] == 600 and counts["too_long"] == 0
    assert 60 < counts["held_out_solutions"] < 180
    seen: dict[bool, set[str]] = {False: set(), True: set()}
    for held, windows in ((False, examples.train), (True, examples.held_out_windows)):
        found = 0
        for window in windows:
            assert window["tokens"].shape == window[LABELS].shape == (64,)
            for number in range(1, window["segment_ids"].max() + 1):
                here = window["segment_ids"] == number
                text, found = TOKENIZER.decode(window["tokens"][here]), found + 1
                seen[held].add(text.split(":")[0])
                assert window[MASK][here].sum() == text.count("=") and window[MASK][here][-1] == 1
        assert found == counts["held_out_solutions" if held else "solutions"]
    assert sum(window[MASK].sum() for window in examples.train) == counts["scores"]
    assert {one.question for one in examples.held_out} == seen[True] and len(examples.held_out) == found
    assert seen[False] and seen[True] and not seen[False] & seen[True]


def test_what_is_too_long_is_dropped_and_counted():
    rows = solutions(50)
    longest = max(len(encode(row, FORM, TOKENIZER).ids) for row in rows)
    examples = make_examples(iter(rows), FORM, TOKENIZER, longest - 1)
    assert examples.counts["too_long"] > 0
    assert examples.counts["too_long"] + examples.counts["solutions"] == 50


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([], "no labelled solution of up to 32 tokens"),
        (
            [dataclasses.replace(ONE, completion=" x" * 99, ends=(4, 198))],
            r"no labelled solution .* \(1 are longer",
        ),
        ([dataclasses.replace(ONE, labels=(1.0, 1.0))] * 3, "all 6 labels are 1: .* nothing from one class"),
        ([dataclasses.replace(ONE, labels=(1.0,))], "1 labels and 2 steps"),
        ([dataclasses.replace(ONE, ends=(), labels=())], "0 labels and 0 steps"),
    ],
)
def test_mistakes_are_one_line(rows, line):
    with pytest.raises(UserError, match=line):
        make_examples(rows, FORM, TOKENIZER, 32)


def test_as_many_are_held_out_as_asked_for_and_windows_are_told_apart():
    some, more = (
        make_examples(solutions(300), FORM, TOKENIZER, 64, held_out=2_000, most_held_out=n) for n in (5, 9)
    )
    assert (len(some.held_out), len(more.held_out)) == (5, 9) and some.counts["solutions"] == more.counts[
        "solutions"
    ]
    again = make_examples(solutions(300), FORM, TOKENIZER, 64, held_out=2_000, most_held_out=5)
    assert some.identity() == again.identity() != more.identity()
