"""The pool: what is kept of sampled solutions, and solutions that people have."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from dsm_jax.errors import UserError
from dsm_jax.rl.shepherd.config import Shepherd
from dsm_jax.rl.shepherd.counts import PoolCounts
from dsm_jax.rl.shepherd.pool import Solution, pool_of, pool_row, read_pools, sample_pools
from tests.rl.shepherd.scripted import PROMPT, RIGHT, WRONG, Characters, Scripted

ROWS = [{"question": "q", "answer": "7", "prompt": PROMPT, "task": "MATH"}]


def test_what_is_kept_of_sampled_solutions() -> None:
    said = ["\na" + RIGHT, WRONG, "\na" + RIGHT, None, " ", "\nb" + RIGHT]
    sampler = Scripted(lambda text, sample: said[sample])
    (pool,), counts = sample_pools(
        sampler, ROWS, Shepherd(solutions=6, max_new_tokens=40, temperature=0.9), first=8
    )
    assert [one.completion for one in pool.solutions] == [said[0], WRONG, said[5]]
    assert [one.right for one in pool.solutions] == [True, False, True]
    assert [Characters().decode(one.tokens) for one in pool.solutions] == [said[0], WRONG, said[5]]
    assert (pool.answer, pool.task, pool.tokenizer) == ("7", "MATH", "characters")
    ends = sum(len(text) + 1 for text in said if text)
    assert counts == PoolCounts(
        problems=1, sampled=6, unfinished=1, repeated=1, kept=3, right=2, empty=0, tokens=ends + 40
    )  # fmt: skip
    (request,) = sampler.calls[0]
    assert (request.n, request.prompt_id, request.temperature, request.prompt[0]) == (6, 8, 0.9, 1)
    assert pool_of(json.loads(json.dumps(pool_row(pool)))) == pool


def test_a_problem_without_a_solution_has_no_pool() -> None:
    pools, counts = sample_pools(Scripted(lambda text, sample: None), ROWS * 2, Shepherd(max_new_tokens=5))
    assert (pools, counts.empty, counts.unfinished) == ([], 2, 30)


def test_a_prompt_that_leaves_no_room_is_not_asked() -> None:
    sampler = Scripted(lambda text, sample: RIGHT)
    rows = [ROWS[0] | {"prompt": "x" * 498}, *ROWS]
    (pool,), counts = sample_pools(sampler, rows, Shepherd(solutions=2), first=3)
    assert (pool.prompt, counts.problems, counts.too_long, counts.kept) == (PROMPT, 2, 1, 1)
    assert [one.prompt_id for one in sampler.calls[0]] == [4]
    sampler.config.max_seq_len = 5
    assert sample_pools(sampler, rows, Shepherd())[1] == PoolCounts(problems=2, too_long=2)


def write(file: Path, rows: list) -> Path:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)
    return file


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_solutions_that_people_have(tmp_path: Path, name: str) -> None:
    rows = [
        {"question": "q", "answer": 7, "completion": "a" + RIGHT, "task": "GSM8K"},
        {"question": "q", "answer": "7", "completion": " a" + RIGHT, "task": "GSM8K"},
        {"question": "q", "answer": "7", "completion": "\nb" + WRONG, "task": "GSM8K"},
        {"question": "other", "answer": "8", "completion": WRONG, "model": "any"},
        {"question": "unclear", "answer": "", "completion": WRONG},
        {"question": "q", "answer": "7", "completion": "again" + RIGHT},
    ]
    found = list(read_pools([write(tmp_path / name, rows)], " (think)"))
    pools = [pool for pool, _ in found]
    assert [pool and pool.question for pool in pools] == ["q", "other", None, "q"]
    assert pools[0].solutions == (Solution(" a" + RIGHT, True), Solution("\nb" + WRONG, False))
    assert pools[0].prompt == PROMPT.replace("q", "q (think)") and pools[0].task == "GSM8K"
    assert pools[1].solutions == (Solution(WRONG, True),)
    assert sum((of for _, of in found), PoolCounts()) == PoolCounts(
        problems=4, sampled=6, repeated=1, kept=4, right=3, unscored=1
    )


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (
            {"question": "q", "answer": "7"},
            ":2: no completion in this row; give question, answer, completion",
        ),
        ({"question": "q", "answer": None, "completion": "a"}, ":2: no answer in this row"),
        (["q"], ":2: no question in this row"),
    ],
)
def test_a_row_that_is_none_is_named(tmp_path: Path, row: object, line: str) -> None:
    good = {"question": "q", "answer": "7", "completion": "a"}
    with pytest.raises(UserError, match=line):
        list(read_pools([write(tmp_path / "rows.jsonl", [good, row])]))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"n": 0}, "--n is 0; it must be at least 1"),
        ({"max_new_tokens": 1}, "--max-new-tokens is 1; it must be at least 2"),
        ({"completer_temperature": 0.0}, "--completer-temperature is 0.0"),
        ({"top_p": 0.0}, "--top-p is 0.0"),
        ({"splitting": "words"}, "--splitting words: give lines, numbered, sentences"),
        ({"search": "binary", "estimate": "soft"}, "--search binary"),
        ({"search": "binary", "keep_draws": True}, "--search binary"),
        ({"rng_seed": 2**31}, "--rng-seed is 2147483648"),
    ],
)
def test_options_that_cannot_be(options: dict, line: str) -> None:
    with pytest.raises(UserError, match=line):
        Shepherd(**options)
