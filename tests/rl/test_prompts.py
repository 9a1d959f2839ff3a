"""Prompts of RL: every epoch in an order of its own, rows of several sources with the same fields, what is left out."""

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from dsm_jax.data.problems import ProblemSet
from dsm_jax.errors import UserError
from dsm_jax.rl.prompts import Prompts, problem_prompts, prompt_rows, read_all_questions, told


class Letters:
    """A token a character."""

    vocab_size, bos_id, eos_id, pad_id, fingerprint = 256, 1, 2, 0, "letters"

    def encode(self, text: str) -> list[int]:
        return [ord(letter) % 256 for letter in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def write(path, *rows) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_every_epoch_asks_each_row_once_in_an_order_of_its_own():
    prompts = Prompts([{"prompt": str(i)} for i in range(10)], 4, rng_seed=3)
    asked = [row["prompt"] for i in range(15) for row in prompts(i)]
    epochs = [asked[start : start + 10] for start in range(0, 60, 10)]
    assert all(sorted(epoch) == sorted(map(str, range(10))) for epoch in epochs)
    assert all(one != other for one, other in pairwise(epochs))
    assert prompts(7) == Prompts(prompts.rows, 4, rng_seed=3)(7) != Prompts(prompts.rows, 4, rng_seed=4)(7)
    assert len(Prompts(prompts.rows, 25, rng_seed=3)(0)) == 25


def test_a_field_named_as_a_reward_s_argument_is_refused():
    for name in ("prompts", "completions", "completion_ids"):
        with pytest.raises(UserError, match=f"prompts: a row has the field {name}, which is a reward's own"):
            Prompts([{"prompt": "a"}, {"prompt": "b", name: 1}], 1, rng_seed=0)


def test_the_generator_s_problems_are_asked_one_after_the_other():
    problems = ProblemSet("train", seed=5)
    prompts = problem_prompts(problems, 3, " Box it.")
    expected = [problems[i] for i in range(6)]
    assert [*prompts(0), *prompts(1)] == [
        {"prompt": f"User: {one.question} Box it.\n\nAssistant:", "answer": one.answer} for one in expected
    ]


def test_the_fingerprint_is_of_rows_and_order():
    rows = [{"prompt": "a"}, {"prompt": "b"}]
    assert Prompts(rows, 1, 0).fingerprint() == Prompts(list(rows), 2, 1).fingerprint()
    assert Prompts(rows, 1, 0).fingerprint() != Prompts(rows[::-1], 1, 0).fingerprint()


def test_several_sources(tmp_path):
    write(tmp_path / "gsm8k/train.jsonl", *({"question": f"{i}?", "answer": f"#### {i}"} for i in range(3)))
    own = [{"problem": f"{i}?", "answer": str(i), "source": "CoT/MATH", "level": i} for i in range(2, 5)]
    file = write(tmp_path / "own.jsonl", *own, own[0] | {"problem": "9?", "source": "PoT/MATH"})
    skipped = Counter()
    rows = read_all_questions([f"gsm8k:{tmp_path / 'gsm8k'}", file], skipped, only=["CoT/"], without={"1?"})
    assert [(row["question"], row["source"]) for row in rows] == [
        ("0?", "gsm8k"), ("2?", "gsm8k"), ("3?", "CoT/MATH"), ("4?", "CoT/MATH"),
    ]  # fmt: skip
    assert skipped == {"stood before": 1, "of other sources": 1, "asked in the evaluation": 1}
    assert told(4, skipped) == (
        "4 questions; left out: 1 asked in the evaluation, 1 of other sources, 1 stood before"
    )


def test_rows_have_the_same_fields_and_fit():
    questions = [
        {"question": "2+2?", "answer": "4", "day": object},
        {"question": "3+3?", "answer": "6", "completions": 7, "prompts": "x"},
        {"question": "long" * 20, "answer": "0"},
    ]
    skipped = Counter()
    rows = prompt_rows(questions, Letters(), " Box it.", 60, skipped)
    assert rows == [
        {"prompt": "User: 2+2? Box it.\n\nAssistant:", "question": "2+2?", "answer": "4", "day": str(object)},
        {"prompt": "User: 3+3? Box it.\n\nAssistant:", "question": "3+3?", "answer": "6", "day": None},
    ]
    assert skipped == {"longer than 60 tokens": 1}
    length = 1 + len(rows[0]["prompt"])
    assert len(prompt_rows(questions, Letters(), " Box it.", length, Counter())) == 2
    with pytest.raises(UserError, match=r"0 questions; left out: 3 longer than \d+ tokens; give others"):
        prompt_rows(questions, Letters(), " Box it.", length - 1, Counter())


def test_nothing_but_the_evaluation_s_questions(tmp_path):
    file = write(tmp_path / "a.jsonl", {"question": "1?", "answer": "1"})
    with pytest.raises(UserError, match="--prompts: 0 questions; left out: 1 asked in the evaluation"):
        read_all_questions([file], Counter(), without={"1?"})


def test_a_curriculum_asks_what_can_be_learned():
    """Never asked and half right often, always and never right seldom; each at most once a draw, the same every time."""
    success = np.array([np.nan, 0.5, 0.0, 1.0, 0.9], np.float32)
    prompts = Prompts([{"prompt": str(i)} for i in range(5)], 2, rng_seed=3)
    draws = [prompts.choose(draw, success) for draw in range(2_000)]
    assert all(len(set(draw)) == 2 for draw in draws)
    counts = np.bincount(np.concatenate(draws), minlength=5)
    assert counts[0] > 1_000 and counts[1] > 1_000 and 50 < counts[2] < 300 and 50 < counts[3] < 300
    assert counts[3] < counts[4] < counts[1]
    again = Prompts([{"prompt": str(i)} for i in range(5)], 2, rng_seed=3)
    np.testing.assert_array_equal(again.choose(7, success), draws[7])
    for draw in range(50):
        assert set(again.choose(draw, success, [0, 1, 4])) == {2, 3}
