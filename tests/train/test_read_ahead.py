"""Reading ahead: the batches of their steps, in any order of the threads; errors come up; the wait is measured."""

from __future__ import annotations

import threading
import time

import pytest

from dsm_jax.train.read_ahead import DEPTH, ReadAhead


def test_every_step_gets_its_own_batch_and_nothing_is_read_beyond_the_last():
    read = []

    def batch(step: int) -> int:
        time.sleep(0.001 * (step % 3))
        read.append(step)
        return 10 * step

    with ReadAhead(batch, 12) as ahead:
        assert [ahead(step) for step in range(5, 12)] == [10 * step for step in range(5, 12)]
    assert sorted(read) == list(range(5, 12))


def test_the_next_batches_are_made_while_a_step_runs():
    made = [threading.Event() for _ in range(20)]
    with ReadAhead(lambda step: made[step].set(), 20) as ahead:
        ahead(0)
        assert all(made[step].wait(5) for step in range(DEPTH))
        assert not made[DEPTH + 1].is_set()


def test_the_wait_is_measured():
    with ReadAhead(lambda step: time.sleep(0.05), 3) as ahead:
        ahead(0)
        assert 0.04 < ahead.waited() < 0.2
        assert ahead.waited() == 0
        time.sleep(0.2)
        ahead(1)
        assert ahead.waited() < 0.02


def test_an_error_of_a_batch_is_the_step_s():
    with ReadAhead(lambda step: 1 // (2 - step), 5) as ahead:
        assert ahead(0) == 0 and ahead(1) == 1
        with pytest.raises(ZeroDivisionError):
            ahead(2)
