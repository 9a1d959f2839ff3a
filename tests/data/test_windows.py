"""Packing loses nothing, keeps documents apart and marks the right targets."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.data.windows import Example, pack_documents, pack_examples, pack_fitting

documents_of = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=30), max_size=12)


def segments_of(windows):
    """(tokens, loss mask) of every segment in order."""
    for window in windows:
        for number in range(1, window["segment_ids"].max() + 1):
            here = window["segment_ids"] == number
            yield window["tokens"][here].tolist(), window["loss_mask"][here].tolist()


def check_form(window, length):
    assert {name: array.dtype for name, array in window.items()} == {
        "tokens": np.int32, "segment_ids": np.int32, "loss_mask": np.float32
    }  # fmt: skip
    assert all(array.shape == (length,) for array in window.values())
    used = np.count_nonzero(window["segment_ids"])
    assert (window["segment_ids"][used:] == 0).all() and (window["loss_mask"][used:] == 0).all()
    assert set(np.diff(window["segment_ids"][:used])) <= {0, 1} and window["segment_ids"][0] == 1


@given(documents_of, st.integers(1, 16))
def test_documents_are_cut_but_never_lost(documents, length):
    windows = list(pack_documents(documents, length))
    for window in windows:
        check_form(window, length)
    assert [t for tokens, _ in segments_of(windows) for t in tokens] == [t for d in documents for t in d]
    assert all(mask == [0.0] + [1.0] * (len(tokens) - 1) for tokens, mask in segments_of(windows))
    assert all((window["segment_ids"] > 0).all() for window in windows[:-1])


def test_a_long_document_goes_on_as_its_own_segment():
    windows = list(pack_documents([[1, 5, 2], [1, 6, 7, 8, 2]], 4))
    assert [w["tokens"].tolist() for w in windows] == [[1, 5, 2, 1], [6, 7, 8, 2]]
    assert [w["segment_ids"].tolist() for w in windows] == [[1, 1, 1, 2], [1, 1, 1, 1]]
    assert [w["loss_mask"].tolist() for w in windows] == [[0, 1, 1, 0], [0, 1, 1, 1]]


@given(documents_of, st.integers(1, 16))
def test_examples_stay_whole(documents, length):
    examples = [Example(ids, [i % 2 == 1 for i in range(len(ids))]) for ids in documents]
    packed = pack_examples(examples, length)
    for window in packed.windows:
        check_form(window, length)
    fitting = [ids for ids in documents if len(ids) <= length]
    assert packed.dropped == len(documents) - len(fitting)
    assert sorted(tokens for tokens, _ in segments_of(packed.windows)) == sorted(fitting)
    assert all(mask == [i % 2 for i in range(len(mask))] for _, mask in segments_of(packed.windows))


def test_examples_go_into_the_first_window_with_room():
    examples = [Example([n] * n, [True] * n) for n in (5, 4, 3, 2, 9, 1)]
    packed = pack_examples(examples, 8)
    assert [w["tokens"].tolist() for w in packed.windows] == [[5] * 5 + [3] * 3, [4] * 4 + [2] * 2 + [1, 0]]
    assert packed.dropped == 1


def test_windows_come_as_they_close_and_as_a_list_would_hold_them():
    """First-fit over the last 64 windows, written with a list of all."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 21, 2_000).tolist()
    expected: list[list[int]] = []
    for number, size in enumerate(sizes):
        open_ones = range(max(0, len(expected) - 64), len(expected))
        at = next((i for i in open_ones if sum(sizes[n] for n in expected[i]) + size <= 20), None)
        if at is None:
            expected.append([number])
        else:
            expected[at].append(number)
    taken = 0

    def examples():
        nonlocal taken
        for number, size in enumerate(sizes):
            taken = number
            yield Example([number] * size, True)

    windows = pack_fitting(examples(), 20)
    first = next(windows)
    assert 64 < taken < 200  # of the 2,000 no more are read than it takes to close the first
    found = [list(dict.fromkeys(window["tokens"][window["segment_ids"] > 0])) for window in [first, *windows]]
    assert found == expected
