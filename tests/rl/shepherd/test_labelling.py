"""Labels are those of n completions of each step by itself, whatever is shared, stopped early, ordered or resumed."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.rl.shepherd import completer
from dsm_jax.rl.shepherd.config import Shepherd
from dsm_jax.rl.shepherd.labelling import Labelling, label_pools
from dsm_jax.rl.shepherd.pool import Pool
from dsm_jax.rl.steps.segments import step_ends
from tests.rl.shepherd.scripted import PROMPT, RIGHT, WRONG, Characters, Scripted, by_chance, pool_of_texts
from tests.sample.models import ONE_LAYER, Letters, sampler_of

OPTIONS = {"max_new_tokens": 80}
LINES = st.lists(st.sampled_from(["a=1", "a=1.", "b", "等于二。"]), min_size=0, max_size=5)
TEXTS = st.builds(
    lambda lines, right: "\n".join(["", *lines]) + (RIGHT if right else WRONG), LINES, st.booleans()
)
POOLS = st.lists(
    st.builds(lambda texts: pool_of_texts(*texts), st.lists(TEXTS, min_size=1, max_size=6)),
    min_size=1,
    max_size=3,
)


def naive(pool: Pool, script, n: int) -> list[tuple[list[list[bool]], int]]:
    """For each solution the outcomes of each step's n completions but the last's, and the tokens that they took."""
    found = []
    for solution in pool.solutions:
        outcomes, tokens = [], 0
        for end in step_ends(solution.completion)[:-1]:
            text = solution.completion[:end]
            if solution.completion[end - 1 : end + 1] == ".\n":
                text += "\n"  # one token with the full stop
            given = len(Characters().encode(text))
            said = [script(pool.prompt + text, sample) for sample in range(n)]
            most = OPTIONS["max_new_tokens"] - given
            tokens += sum(
                most if one is None else min(most, len(Characters().encode(one)) + 1) for one in said
            )
            outcomes.append([one is not None and one.endswith("{7}") for one in said])
        found.append((outcomes, tokens))
    return found


def words(outcomes: list[list[bool]]) -> tuple[str, ...]:
    return (*("".join("01"[hit] for hit in hits) for hits in outcomes), "")


@given(POOLS, st.integers(1, 9), st.sampled_from([0.0, 0.2, 0.6, 1.0]), st.booleans())
def test_labels_are_those_of_all_completions(pools: list[Pool], n: int, chance: float, early: bool) -> None:
    script = by_chance(chance)
    found, counts = label_pools(Scripted(script), pools, Shepherd(n=n, keep_draws=not early, **OPTIONS))
    expected = [of for pool in pools for of in naive(pool, script, n)]
    rights = [solution.right for pool in pools for solution in pool.solutions]
    for one, (outcomes, _), right in zip(found, expected, rights, strict=True):
        assert one.labelled.labels == (*map(float, map(any, outcomes)), float(right))
        for seen, all_of_them in zip(one.draws, words(outcomes), strict=True):
            assert all_of_them.startswith(seen) if early else seen == all_of_them
    exact = sum(tokens for _, tokens in expected)
    assert counts.decoded <= exact and counts.completions <= counts.naive_completions
    if not early:
        assert counts.naive_decoded == exact


@given(POOLS, st.integers(1, 8))
def test_soft_labels_are_shares(pools: list[Pool], n: int) -> None:
    script = by_chance(0.4)
    found, _ = label_pools(Scripted(script), pools, Shepherd(n=n, estimate="soft", **OPTIONS))
    expected = [of for pool in pools for of, _ in naive(pool, script, n)]
    assert [one.labelled.labels[:-1] for one in found] == [
        tuple(sum(hits) / n for hits in outcomes) for outcomes in expected
    ]


@given(POOLS, st.sampled_from(["every", "binary"]), st.randoms(use_true_random=False))
def test_sharing_and_order_change_nothing(pools: list[Pool], search: str, random) -> None:
    config = Shepherd(n=4, search=search, **OPTIONS)
    sampler = Scripted(by_chance())
    together, counts = label_pools(sampler, pools, config)
    alone = [
        label_pools(sampler, [pool.__class__(**vars(pool) | {"solutions": (solution,)})], config)
        for pool in pools
        for solution in pool.solutions
    ]
    assert [one.labelled for one in together] == [one.labelled for (one,), _ in alone]
    if search == "every":  # a binary search shows what the others have drawn, too
        assert together == [one for (one,), _ in alone]
    assert counts.completions <= sum(of.completions for _, of in alone)
    assert counts.naive_completions == sum(of.naive_completions for _, of in alone)
    places = list(range(len(pools)))
    random.shuffle(places)
    mixed, _ = label_pools(sampler, [pools[place] for place in places], config)
    sizes = [len(pool.solutions) for pool in pools]
    starts = [sum(sizes[:place]) for place in places]
    assert mixed == [
        together[start + i] for start, place in zip(starts, places, strict=True) for i in range(sizes[place])
    ]


@given(POOLS, st.integers(0, 5))
def test_a_labelling_goes_on_where_it_was(pools: list[Pool], rounds: int) -> None:
    config = Shepherd(n=8, **OPTIONS)
    whole = Labelling(Scripted(by_chance()), pools, config)
    whole.run()
    first = Labelling(Scripted(by_chance()), pools, config)

    def stop() -> None:
        if first.rounds >= rounds:
            raise KeyboardInterrupt

    try:
        first.run(stop)
    except KeyboardInterrupt:
        pass
    second = Labelling(Scripted(by_chance()), pools, config)
    second.restore(json.loads(json.dumps(first.saved())))
    second.run()
    assert (second.labels(), second.counts()) == (whole.labels(), whole.counts())


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=5), st.integers(1, 4))
def test_binary_search_finds_what_judging_all_finds_where_good_steps_come_first(shapes, n: int) -> None:
    """Solutions of so many steps, whose first bad one is that step; one that lies beyond the last makes it right."""
    texts = [
        "".join(f"\n{name}{'g' if step < bad else 'b'}" for step in range(1, steps))
        + (WRONG if bad <= steps else RIGHT)
        for name, (steps, bad) in enumerate(shapes)
    ]
    pool = pool_of_texts(*texts)

    def script(text: str, sample: int) -> str:
        return RIGHT if "b" not in text.removeprefix(PROMPT) and sample == n - 1 else WRONG

    every, of_all = label_pools(Scripted(script), [pool], Shepherd(n=n, **OPTIONS))
    binary, counts = label_pools(Scripted(script), [pool], Shepherd(n=n, search="binary", **OPTIONS))
    assert [one.labelled for one in binary] == [one.labelled for one in every]
    assert [sum(one.labelled.labels) for one in binary] == [
        min(bad - 1, steps) for steps, bad in shapes_of(shapes, texts)
    ]
    assert counts.completions <= of_all.completions
    for one in binary:
        asked = sum(map(bool, one.draws))
        assert asked <= (len(one.draws) - 1).bit_length()


def shapes_of(shapes, texts: list[str]):
    """Those of different texts, as a pool has them."""
    return dict(zip(texts, shapes, strict=True)).values()


def test_what_it_took() -> None:
    """Two solutions share their first line; one of its completions is right, the third. n = 4, rounds of 1, 1 and 2."""
    pool = pool_of_texts("\na\nb" + RIGHT, "\na\nc" + WRONG)
    answers = {"a": [WRONG, WRONG, RIGHT, WRONG], "b": [RIGHT] * 4, "c": [WRONG, None, WRONG, WRONG]}
    sampler = Scripted(lambda text, sample: answers[text[-1]][sample])
    found, counts = label_pools(sampler, [pool], Shepherd(n=4, max_new_tokens=30))
    assert [one.labelled.labels for one in found] == [(1, 1, 1), (1, 0, 0)]
    assert [one.draws for one in found] == [("0010", "1", ""), ("0010", "0000", "")]
    assert [len(call) for call in sampler.calls] == [3, 2, 2]
    assert [[(one.first_sample, one.n) for one in call] for call in sampler.calls][1:] == [
        [(1, 1)] * 2,
        [(2, 2)] * 2,
    ]
    end, prompt = len(RIGHT) + 1, len(PROMPT) + 1
    cut = 30 - len("\na\nc")
    assert (counts.problems, counts.solutions, counts.steps, counts.prefixes, counts.rounds) == (
        1,
        2,
        6,
        3,
        3,
    )
    assert (counts.completions, counts.hits, counts.cut) == (4 + 1 + 4, 2, 1)
    assert counts.decoded == 8 * end + cut
    # One prefill a round: of both solutions the first line is in it, and all but the last token of the second.
    assert counts.prefill == 3 * (prompt + 3)
    assert counts.naive_completions == 16
    assert counts.naive_decoded == 8 * end + 4 * end + 3 * end + cut
    assert counts.naive_prefill == 2 * (prompt + 1) + 2 * (prompt + 3)


def test_a_separator_is_the_completers_unless_it_is_one_token_with_the_step() -> None:
    pool = pool_of_texts("\na.\nb\nc" + WRONG)
    sampler = Scripted(lambda text, sample: RIGHT)
    label_pools(sampler, [pool], Shepherd(n=1, **OPTIONS))
    seen = [Characters().decode(one.prompt).removeprefix(PROMPT) for one in sampler.calls[0]]
    assert seen == ["\na.\n", "\na.\nb", "\na.\nb\nc"]


def test_the_whole_text_is_graded() -> None:
    """The answer begins in the step and ends in what follows."""
    pool = pool_of_texts("\nso \\boxed{7\n" + WRONG)
    (one,), _ = label_pools(Scripted(lambda text, sample: "7}"[1:]), [pool], Shepherd(n=1, **OPTIONS))
    assert one.labelled.labels == (1, 0)


def test_solutions_without_tokens_are_encoded() -> None:
    texts = "\na.\nb" + WRONG, "\na.\nc" + RIGHT
    found = [
        label_pools(Scripted(by_chance()), [pool_of_texts(*texts, known=known)], Shepherd(**OPTIONS))
        for known in (True, False)
    ]
    assert found[0] == found[1]


def test_a_solution_that_does_not_fit_is_left_out_and_counted() -> None:
    pool = pool_of_texts("\na" * 50 + RIGHT, "\na" + RIGHT)
    found, counts = label_pools(Scripted(by_chance()), [pool], Shepherd(**OPTIONS))
    assert (len(found), counts.solutions, counts.too_long) == (1, 1, 1)


class Spelled(Letters):
    """Says what its tokens spell."""

    def spelled(self, ids: Sequence[int]) -> list[bytes]:
        return [self.decode([i]).encode() for i in ids]


def test_the_sampler_itself_gives_the_same_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Early stops, all at once, and each solution alone, with a model of random numbers; right is what its letters say."""
    monkeypatch.setattr(
        completer, "graded", lambda pairs: iter([sum(map(ord, text)) % 4 == 0 for text, _ in pairs])
    )
    sampler = sampler_of(ONE_LAYER, tokenizer=Spelled(), slots=8)
    pool = pool_of_texts("\nab\ncd\nef", "\nab\ncd\ngh", "\nab\nxx\nyy\nzz", known=False)
    config = {"n": 8, "max_new_tokens": 24, "completer_temperature": 1.0}
    early, counts = label_pools(sampler, [pool], Shepherd(**config))
    whole, of_all = label_pools(sampler, [pool], Shepherd(keep_draws=True, **config))
    assert [one.labelled for one in early] == [one.labelled for one in whole]
    assert all(
        b.startswith(a)
        for one, other in zip(early, whole, strict=True)
        for a, b in zip(one.draws, other.draws, strict=True)
    )
    assert {"0", "1"} == set("".join(whole[0].draws + whole[2].draws))
    assert counts.completions < of_all.completions == 8 * 4 and of_all.rounds == 1
    alone = pool.__class__(**vars(pool) | {"solutions": pool.solutions[2:]})
    assert label_pools(sampler, [alone], Shepherd(**config))[0] == early[2:]
