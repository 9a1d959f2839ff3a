"""Several processes end together, whatever ends one of them."""

import time

import pytest

from tests.processes import run_processes


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("mistake", 2, "error: part-00001 is damaged"),
        ("bug", 1, "\nZeroDivisionError"),
        ("sigterm", 75, "stopped by SIGTERM; the same command goes on from here"),
        ("while writing", 75, "stopped by SIGTERM; the same command goes on from here"),
        ("in first", 130, "stopped; the same command goes on from here"),
    ],
)
def test_all_end_with_the_one_that_fails(how: str, code: int, said: str) -> None:
    start = time.monotonic()
    for _, err in run_processes(["-m", "tests.one_fails", "--how", how], 2, code=code):
        assert err.count(said) == 1 and ("Traceback" in err) == (how == "bug")
    assert time.monotonic() - start < 60
