"""Damaged files: no crash, no hang, numbers that add up, and no whole record missed."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.mine.warc_files import COMPRESS
from tests.mine.web.mutations import intact, read_through

ROOT = Path(__file__).parents[3]


def damage_and_read(folder: Path, count: int, seed: int, limit_s: int) -> list[dict]:
    """In a process of its own: a crash of fastwarc's would take this one with it, a hang could not be ended."""
    command = [sys.executable, "-m", "tests.mine.web.mutations", str(folder), str(count), str(seed)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit_s, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return list(map(json.loads, done.stdout.splitlines()))


def check(rows: list[dict], count: int) -> None:
    assert len(rows) == count
    assert max(row["seconds"] for row in rows) < 2
    assert [row for row in rows if row["missed"]] == []
    skipped = Counter()
    for row in rows:
        skipped.update(row["skipped"])
        assert row["records"] == row["pages"] + sum(row["skipped"].values())
    assert skipped["broken record"] == 0  # what was indexed can be read
    # Most of what was there is still read, and damage is seen.
    assert sum(row["pages"] for row in rows) > count / 2
    assert sum(row["broken"] for row in rows) > count / 4


@pytest.fixture(scope="module")
def own_samples(tmp_path_factory, make_record) -> Path:
    """Twelve pages in every compression, a record a member and all in one."""
    folder = tmp_path_factory.mktemp("samples")
    records = [
        make_record(f"https://a.org/{i}", f"<html><body>page {i} {'text ' * i * i}</body></html>".encode())
        for i in range(12)
    ]

    for name, pack in COMPRESS.items():
        (folder / f"members.{name}").write_bytes(b"".join(map(pack, records)))
        (folder / f"one.{name}").write_bytes(pack(b"".join(records)))
    return folder


def test_damaged_files_of_every_compression(own_samples):
    check(damage_and_read(own_samples, 150, 0, 120), 150)


def test_damaged_public_samples(dsm_data):
    check(damage_and_read(dsm_data / "warc_samples", 150, 0, 120), 150)


@pytest.mark.slow
def test_two_thousand_damaged_public_samples(dsm_data):
    check(damage_and_read(dsm_data / "warc_samples", 2000, 1, 300), 2000)


def test_public_samples_as_they_are(dsm_data):
    """Several are broken; another reading finds the same whole records."""
    paths = sorted((dsm_data / "warc_samples").iterdir())
    assert len(paths) == 36
    for path in paths:
        row = read_through(path)
        assert not row["missed"] and row["records"] >= 1 and row["seconds"] < 2, path.name
        assert row["broken"] == 0, path.name
    whole = {path.name: len(intact(path.read_bytes())) for path in paths}
    assert sum(whole.values()) > 240 and whole["chatnoir-resiliparse__warcfile.warc.gz"] == 50


def test_the_other_reading_sees_damage(own_samples):
    """Else nothing above could be missed."""
    content = (own_samples / "members.gzip").read_bytes()
    starts = intact(content)
    assert len(starts) == 12
    assert intact(content[: starts[6] + 10] + content[starts[7] :]) == [
        *starts[:6],
        *(start - starts[7] + starts[6] + 10 for start in starts[7:]),
    ]
    plain = (own_samples / "members.plain").read_bytes()
    assert (
        len(intact(plain)) == 12
        and len(intact(plain.replace(b"Content-Length: 1", b"Content-Length: 2", 1))) == 11
    )
