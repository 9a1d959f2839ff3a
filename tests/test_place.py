"""Runs in places that are not disks: what a copy holds, what a kill leaves of it, who goes on with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dsm_jax import place
from dsm_jax.cli import run_script
from dsm_jax.errors import Preempted, UserError
from dsm_jax.place import Mirror, find_place, open_place, working_folder
from dsm_jax.run import MetricsWriter, read_metrics

URL = "fake://bucket/runs/a"


class FakeFileSystem(MemoryFileSystem):
    """In memory, whole objects only; can be told to fail at the write of a path that holds a text."""

    protocol = "fake"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    fails_at = ""
    writes: ClassVar[list[str]] = []

    def _written(self, path: str) -> None:
        if self.fails_at and self.fails_at in path:
            raise OSError("the place is down")
        self.writes.append(path.rpartition("runs/a/")[2])

    def pipe_file(self, path, value, **options):
        self._written(path)
        super().pipe_file(path, value, **options)

    def put_file(self, lpath, rpath, **options):
        self._written(rpath)
        super().put_file(lpath, rpath, **options)

    def _open(self, path, mode="rb", **options):
        assert "a" not in mode and "+" not in mode, "objects cannot grow"
        return super()._open(path, mode, **options)


fsspec.register_implementation("fake", FakeFileSystem, clobber=True)


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.setattr(place, "CACHE", tmp_path / "cache")
    FakeFileSystem.store, FakeFileSystem.pseudo_dirs = {}, [""]
    FakeFileSystem.fails_at, FakeFileSystem.writes = "", []


def other_machine():
    """Here, with nothing of what the first machine had."""
    shutil.rmtree(place.CACHE)


def stored() -> set[str]:
    return {path.rpartition("runs/a/")[2] for path in FakeFileSystem.store}


def log(folder, first: int, last: int, loss: float = 1.0) -> None:
    with MetricsWriter(folder, first) as metrics:
        for step in range(first, last + 1):
            metrics.write(step, {"loss": loss / step})


def add_checkpoint(folder, step: int) -> None:
    (folder / "checkpoints" / str(step) / "d").mkdir(parents=True)
    (folder / "checkpoints" / str(step) / "d/array").write_bytes(bytes(100) * step)


def test_a_folder_on_a_disk_is_itself(tmp_path):
    with open_place(tmp_path / "run") as here:
        assert here.folder == tmp_path / "run" and here.checkpoints == tmp_path / "run/checkpoints"
    assert find_place(tmp_path / "run") == here and not stored()


def test_a_run_is_copied_and_goes_on_elsewhere():
    with open_place(URL) as here:
        (here.folder / "windows/code").mkdir(parents=True)
        (here.folder / "windows/code/part").write_bytes(bytes(10))
        (here.folder / "config.json").write_text("{}")
        (here.folder / "config.json.tmp").write_text("{")
        add_checkpoint(here.folder, 5)
        log(here.folder, 1, 7)
    names = stored()
    assert {"config.json", "checkpoints/5/d/array", "metrics-00001.jsonl", "files.json"} <= names
    assert not {name for name in names if "windows" in name or "tmp" in name or name == "metrics.jsonl"}
    other_machine()
    with open_place(URL) as there:
        assert (there.folder / "checkpoints/5/d/array").read_bytes() == bytes(500)
        assert [row["step"] for row in read_metrics(there.folder / "metrics.jsonl")] == list(range(1, 8))
        log(there.folder, 6, 12)  # from the checkpoint of step 5 on
        add_checkpoint(there.folder, 10)
        shutil.rmtree(there.folder / "checkpoints/5")
        (there.folder / "done.json").write_text("{}")
    assert "checkpoints/10/d/array" in stored() and "checkpoints/5/d/array" not in stored()
    assert FakeFileSystem.writes[-2:] == ["done.json", "files.json"]
    other_machine()
    rows = read_metrics(find_place(URL).folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 13))


def test_rows_are_copied_once_in_parts_and_others_replace_them():
    folder = working_folder(URL)
    mirror = Mirror(folder, URL)
    for last in (3, 5):
        log(folder, 1 if last == 3 else 4, last)
        mirror.push()
    assert {name for name in stored() if name.startswith("metrics")} == {
        "metrics-00001.jsonl",
        "metrics-00002.jsonl",
    }
    part = fsspec.filesystem("fake").cat_file(f"{URL}/metrics-00002.jsonl")
    assert [json.loads(row)["step"] for row in part.splitlines()] == [4, 5]
    before = len(FakeFileSystem.writes)
    mirror.push()
    assert len(FakeFileSystem.writes) == before  # nothing new
    log(folder, 2, 6, loss=2.0)
    mirror.push()
    assert {name for name in stored() if name.startswith("metrics")} == {"metrics-00003.jsonl"}


@pytest.mark.parametrize("fails_at", ["checkpoints/10", "files.json", "metrics-00002"])
def test_a_copy_that_ends_in_the_middle_changes_nothing(fails_at):
    folder = working_folder(URL)
    mirror = Mirror(folder, URL)
    add_checkpoint(folder, 5)
    log(folder, 1, 5)
    mirror.push()
    add_checkpoint(folder, 10)
    shutil.rmtree(folder / "checkpoints/5")
    log(folder, 6, 10)
    FakeFileSystem.fails_at = fails_at
    with pytest.raises(OSError, match="down"):
        mirror.push()
    FakeFileSystem.fails_at = ""
    other_machine_sees = Mirror(folder.with_name("other"), URL)
    assert other_machine_sees.fetch()
    assert (folder.with_name("other") / "checkpoints/5/d/array").is_file()
    assert len(read_metrics(folder.with_name("other") / "metrics.jsonl")) == 5
    assert mirror.fetch() and (folder / "checkpoints/10/d/array").is_file()  # this machine is ahead
    mirror.push()
    shutil.rmtree(folder.with_name("other"))
    assert other_machine_sees.fetch() and len(read_metrics(folder.with_name("other") / "metrics.jsonl")) == 10


def test_a_file_of_another_size_is_damage():
    with open_place(URL) as here:
        add_checkpoint(here.folder, 5)
    fsspec.filesystem("fake").pipe_file(f"{URL}/checkpoints/5/d/array", bytes(10))
    other_machine()
    with pytest.raises(UserError, match="checkpoints/5/d/array is damaged: 10 bytes of 500"):
        find_place(URL)


def run_with(text: str) -> None:
    with open_place(URL) as here:
        here.folder.mkdir(parents=True, exist_ok=True)
        (here.folder / "config.json").write_text(text)
        add_checkpoint(here.folder, 5)


def test_a_place_that_was_emptied_is_filled_again():
    """Between two starts, and while a run goes on."""
    run_with("{}")
    names = stored()
    FakeFileSystem.store.clear()
    with open_place(URL) as here:
        assert (here.folder / "checkpoints/5/d/array").is_file()  # of this run: it goes on
    assert stored() == names
    with open_place(URL):
        FakeFileSystem.store.clear()
    assert stored() == names


def test_another_run_in_the_place_wins_over_the_folder_here(monkeypatch, tmp_path):
    """Though it has been copied fewer times; and where it came during the run, nothing of it is overwritten."""
    for text in ("first", "second", "third"):
        run_with(text) if text == "first" else (working_folder(URL) / "config.json").write_text(text)
        with open_place(URL):
            pass
    FakeFileSystem.store.clear()
    monkeypatch.setattr(place, "CACHE", tmp_path / "other")
    run_with("other")
    monkeypatch.setattr(place, "CACHE", tmp_path / "cache")
    assert (working_folder(URL) / "config.json").read_text() == "third"
    assert (find_place(URL).folder / "config.json").read_text() == "other"
    with pytest.raises(UserError, match="another run writes there"), open_place(URL) as here:
        FakeFileSystem.store.clear()
        monkeypatch.setattr(place, "CACHE", tmp_path / "third")
        run_with("later")
        (here.folder / "config.json").write_text("lost")
    assert (find_place(URL).folder / "config.json").read_text() == "later"


def test_what_a_failed_copy_brought_is_not_sent_again():
    folder = working_folder(URL)
    for step in (5, 10, 15):
        add_checkpoint(folder, step)
    FakeFileSystem.fails_at = "checkpoints/5"  # the last by name
    with pytest.raises(OSError, match="down"):
        Mirror(folder, URL).push()
    FakeFileSystem.fails_at, FakeFileSystem.writes = "", []
    shutil.rmtree(folder / "checkpoints/10")
    Mirror(folder, URL).push()  # of a process that was started again
    assert FakeFileSystem.writes == ["checkpoints/5/d/array", "files.json"]
    assert stored() == {"checkpoints/15/d/array", "checkpoints/5/d/array", "files.json"}


@pytest.mark.parametrize("end", [Preempted("SIGTERM"), UserError("a mistake")])
def test_a_copy_that_fails_does_not_hide_what_ended_the_run(end, capsys):
    with pytest.raises(type(end), match=str(end)), open_place(URL) as here:
        here.folder.mkdir(parents=True)
        (here.folder / "config.json").write_text("{}")
        FakeFileSystem.fails_at = "config"
        raise end
    assert "could not be copied to: the place is down" in capsys.readouterr().err


@dataclass(frozen=True)
class Options:
    """None."""

    preset: str = "only"


@pytest.mark.parametrize(("end", "code"), [(Preempted("SIGTERM"), 75), (UserError("a mistake"), 2)])
def test_sigterm_during_the_last_copy_lets_it_end(end, code, monkeypatch):
    def main(options: Options) -> None:
        with open_place(URL) as here:
            here.folder.mkdir(parents=True)
            (here.folder / "config.json").write_text("{}")
            raise end

    def interrupted(self, path, value, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        MemoryFileSystem.pipe_file(self, path, value, **options)

    monkeypatch.setattr(FakeFileSystem, "pipe_file", interrupted)
    with pytest.raises(SystemExit) as ended:
        run_script(main, {"only": Options()}, [])
    assert ended.value.code == code and "config.json" in stored()


def test_a_place_that_is_gone_is_told_and_a_file_that_went_is_not(monkeypatch, capsys):
    class LostBucket(Mirror):
        def push(self):
            ended.set()
            super().push()

    monkeypatch.setattr(place, "EVERY_S", 0.01)
    folder = working_folder(URL)
    add_checkpoint(folder, 5)
    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "_complete", lambda self: [folder / "went"])
        place._keep_copying(LostBucket(folder, URL), ended := threading.Event())
    assert not capsys.readouterr().err
    monkeypatch.setattr(FakeFileSystem, "pipe_file", raise_not_found)
    place._keep_copying(LostBucket(folder, URL), ended := threading.Event())
    assert f"{URL}: not copied this time: no such bucket" in capsys.readouterr().err


def test_processes_with_one_home_fetch_one_after_the_other(monkeypatch):
    run_with("{}")
    other_machine()
    fetched = []

    def get_slowly(self, name, local, **options):
        time.sleep(0.05)
        fetched.append(name)
        MemoryFileSystem.get_file(self, name, local, **options)

    monkeypatch.setattr(FakeFileSystem, "get_file", get_slowly)
    with ThreadPoolExecutor() as processes:
        found = list(processes.map(find_place, [URL] * 4))
    assert len(fetched) == 2 and (found[3].folder / "checkpoints/5/d/array").is_file()


def raise_not_found(*_, **__):
    raise FileNotFoundError("no such bucket")


def leave_a_file_where_it_cannot_be_copied():
    with open_place(URL) as here:
        here.folder.mkdir(parents=True)
        (here.folder / "config.json").write_text("{}")
        FakeFileSystem.fails_at = "config"


def test_the_last_copy_that_fails_says_where_everything_is():
    with pytest.raises(
        UserError, match="could not be copied to: the place is down; all is in .*, and the same"
    ):
        leave_a_file_where_it_cannot_be_copied()
    FakeFileSystem.fails_at = ""
    with open_place(URL):
        pass
    assert "config.json" in stored()


def test_a_file_that_changed_in_a_killed_copy_is_taken_as_it_is():
    with open_place(URL) as here:
        add_checkpoint(here.folder, 5)
        (here.folder / "report.html").write_text("old")
        leaving = here.folder
    (leaving / "report.html").write_text("newer")
    FakeFileSystem.fails_at = "files.json"
    with pytest.raises(OSError, match="down"):
        Mirror(leaving, URL).push()
    FakeFileSystem.fails_at = ""
    other_machine()
    assert (find_place(URL).folder / "report.html").read_text() == "newer"


@pytest.mark.parametrize(
    ("url", "said"), [("nothing://x/y", "nothing"), ("fake://bucket/none", "no run there")]
)
def test_no_such_place_is_one_line(url, said):
    with pytest.raises(UserError, match=said) as error:
        find_place(url)
    assert "\n" not in str(error.value)


def test_checkpoints_in_the_clouds_are_not_copied():
    """There every process writes its own parts."""
    folder = working_folder(URL)
    add_checkpoint(folder, 5)
    (folder / "checkpoints/model").mkdir()
    (folder / "checkpoints/model/config.json").write_text("{}")
    Mirror(folder, URL, skip_checkpoints=True).push()
    assert stored() == {"checkpoints/model/config.json", "files.json"}
    assert place._place("gs://bucket/run").checkpoints == "gs://bucket/run/checkpoints"
