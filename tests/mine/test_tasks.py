"""Tasks: whoever runs them does each once, writes the same files, and ends with the task's own error."""

import importlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial

import grain
import numpy as np
import psutil
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mine.config import PRESETS
from dsm_jax.mine.crawl import mapped_array
from dsm_jax.mine.duplicates import find_duplicates
from dsm_jax.mine.pipeline import Examples, Sources, mine
from dsm_jax.mine.tasks import HERE, Spread, check_beam, for_each, forget_attempts, mapped
from dsm_jax.run import as_attempt, atomic

SPREADS = {
    "here": HERE,
    "1 worker": Spread(1),
    "2 workers": Spread(2),
    "Beam": Spread(beam=("--runner=DirectRunner",)),
}
WORKER_PROCESSES = pytest.mark.slow  # each starts in some five seconds

# Worker processes import tasks by their module's name.
MODULE = '''
import os
import time
from dsm_jax.errors import UserError
from dsm_jax.run import atomic

def write(folder, number):
    """A file, and a line for each time it was written, and where."""
    with open(folder / "log", "a") as log:
        log.write(f"{number} {os.getpid()}\\n")
    if number == 15:
        time.sleep(600)
    if number == 13:
        raise UserError("shard 13: broken; remove it")
    if number == 14:
        raise ZeroDivisionError("shard 14")
    with atomic(folder / f"{number}.txt") as tmp:
        tmp.write_text(str(number))
'''


@pytest.fixture
def write(tmp_path, monkeypatch):
    """write(folder, number), a task."""
    (tmp_path / "tasks_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("tasks_of_a_test").write
    del sys.modules["tasks_of_a_test"]


@pytest.fixture(
    params=[
        pytest.param(spread, id=name, marks=WORKER_PROCESSES if spread.workers else ())
        for name, spread in SPREADS.items()
    ]
)
def spread(request):
    if request.param.beam:
        pytest.importorskip("apache_beam", reason="Apache Beam is not here: pip install -e .[beam]")
    return request.param


def log(folder):
    rows = [line.split() for line in (folder / "log").read_text().splitlines()]
    return [int(number) for number, _ in rows], {process for _, process in rows}


def test_each_shard_is_done_once(write, tmp_path, spread):
    folder = tmp_path / "out"
    folder.mkdir()
    for_each(partial(write, folder), [5, 3, 8, 1], "write", spread)
    numbers, processes = log(folder)
    assert sorted(numbers) == [1, 3, 5, 8]
    assert {path.name for path in folder.iterdir()} == {"log", "1.txt", "3.txt", "5.txt", "8.txt"}
    if spread.workers:
        assert len(processes) == spread.workers


@pytest.mark.parametrize(("number", "error"), [(13, UserError), (14, ZeroDivisionError)])
def test_a_task_that_raises_ends_with_its_own_error(write, tmp_path, spread, number, error):
    with pytest.raises(error, match=rf"shard {number}") as caught:
        for_each(partial(write, tmp_path), [1, number, 2], "write", spread)
    assert "\n" not in str(caught.value)


def test_no_task_runs_on_after_an_error(write, tmp_path):
    """What a restart in the same process writes would meet it."""
    with pytest.raises(UserError):
        for_each(partial(write, tmp_path), [13, 1, 2, 3], "write", HERE)
    time.sleep(0.2)
    assert log(tmp_path)[0] == [13]


@WORKER_PROCESSES
def test_worker_processes_end_when_their_parent_is_killed(write, tmp_path):
    code = (
        "import sys; from functools import partial; from pathlib import Path; from tasks_of_a_test import write\n"
        "from dsm_jax.mine.tasks import Spread, for_each\n"
        "if __name__ == '__main__': for_each(partial(write, Path(sys.argv[1])), [15], 'wait', Spread(1))"
    )
    (tmp_path / "waits.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "waits.py"), str(tmp_path)], env=environment)
    try:
        assert wait_for(lambda: (tmp_path / "log").exists() and log(tmp_path)[1], 60)
    finally:
        parent.kill()
        parent.wait()
    (worker,) = map(int, log(tmp_path)[1])
    assert worker != parent.pid and wait_for(lambda: not psutil.pid_exists(worker), 10)


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def test_no_shard_needs_no_one(monkeypatch):
    monkeypatch.setattr("dsm_jax.mine.tasks.progress", None)
    for_each(None, [], "nothing", HERE)


def test_the_stages_write_the_same_files(write_crawl, tmp_path, spread):
    rng = np.random.default_rng(0)
    rows = [{"url_key": int(rng.integers(1, 40)), "text_key": int(rng.integers(1, 400))} for _ in range(60)]
    write_crawl(tmp_path / "pages", [rows[:25], rows[25:]])
    find_duplicates(tmp_path / "pages", tmp_path / "here.npy")
    find_duplicates(tmp_path / "pages", tmp_path / "there.npy", spread)
    assert (tmp_path / "there.npy").read_bytes() == (tmp_path / "here.npy").read_bytes()
    assert len(set(mapped_array(tmp_path / "there.npy").tolist())) < 60


@pytest.mark.parametrize(
    "workers", [0, pytest.param(1, marks=WORKER_PROCESSES), pytest.param(2, marks=WORKER_PROCESSES)]
)
def test_a_data_set_comes_in_order(workers):
    dataset = grain.MapDataset.range(50).map(partial(pow, 3))
    assert list(mapped(dataset, workers)) == [3**i for i in range(50)]


def test_beam_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    check_beam(())
    with pytest.raises(UserError, match=r"--runner: .* not installed; pip install") as caught:
        check_beam(("--runner=DirectRunner",))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["NoSuchRunner"], r"--runner NoSuchRunner: .*NoSuchRunner.*DirectRunner"),
        (["no.such.Runner"], "No module named 'no'"),
        (["DirectRunner", "--direct_num_workers", "x"], "--direct_num_workers: invalid int value: 'x'"),
        (["DirectRunner", "--direct_running_mode=bogus"], "invalid choice: 'bogus'"),
    ],
)
def test_a_runner_or_options_that_beam_does_not_know_are_one_line(options, message, capsys):
    pytest.importorskip("apache_beam", reason="Apache Beam is not here: pip install -e .[beam]")
    check_beam(("--runner=DirectRunner", "--direct_num_workers=2"))
    with pytest.raises(UserError, match=message) as caught:
        check_beam((f"--runner={options[0]}", *options[1:]))
    assert "\n" not in str(caught.value) and "usage" not in capsys.readouterr().err


def test_the_pipeline_over_beam_writes_the_same_run(crawl, tmp_path):
    pytest.importorskip("apache_beam", reason="Apache Beam is not here: pip install -e .[beam]")
    warcs, seed = crawl
    config = replace(PRESETS["smoke"], keep_share=0.35)
    for name, spread in (("here", HERE), ("there", SPREADS["Beam"])):
        mine(config, tmp_path / name, Sources(tuple(map(str, warcs))), Examples((seed,)), spread=spread)
    here, there = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("here", "there")
    )
    assert here == there and len(here) > 30


def test_two_attempts_at_once_do_not_tear_each_others_file(tmp_path):
    """Beam tries a task again where it has not heard of the first one, which may still write."""
    path, both, first_done = tmp_path / "a.txt", threading.Barrier(2), threading.Event()
    done = []

    def write(name):
        with as_attempt(), atomic(path) as tmp, open(tmp, "w") as file:
            file.write("first half, ")
            file.flush()
            both.wait(10)
            if name == "second":
                first_done.wait(10)
                done.append(path.read_text())
            file.write("second half")
        first_done.set()
        done.append(path.read_text())

    threads = [threading.Thread(target=write, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert done == ["first half, second half"] * 3 and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_attempt_left_is_forgotten_and_nothing_else(tmp_path):
    (tmp_path / "pages").mkdir()
    path = tmp_path / "pages" / "00001.json"
    with as_attempt():
        killed = atomic(path)
        killed.__enter__().write_text("half")
    own = atomic(path).__enter__()
    own.write_text("of one who still writes")
    path.write_text("{}")
    forget_attempts(tmp_path)
    assert sorted((tmp_path / "pages").iterdir()) == [path, own] and own.name == "00001.json.tmp"
