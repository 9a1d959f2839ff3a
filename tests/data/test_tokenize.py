"""Sources of several files: the same windows for any number of workers and kills; only what changed is made again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from dsm_jax.data.corpus import StoredWindows
from dsm_jax.data.tokenize import HELD_OUT, tokenize_source
from dsm_jax.data.windows import pack_documents
from dsm_jax.errors import Preempted, UserError
from dsm_jax.tokenizer import load_tokenizer, train_sentencepiece

FILES, ROWS = 5, 200
ROOT = Path(__file__).parents[2]


def text(file: int, row: int) -> str:
    return f"file {file}: the number {row} comes before {row + 1}. " * (1 + row % 7)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    for file in range(FILES):
        rows = [json.dumps({"text": text(file, row)}) for row in range(ROWS)]
        (folder / f"{file}.jsonl").write_text("\n".join([*rows, '{"text": " "}']))
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "t.model"
    train_sentencepiece([text(0, row) for row in range(50)], path, vocab_size=300)
    return path


@pytest.fixture(autouse=True)
def each_file_is_a_part(monkeypatch):
    monkeypatch.setattr("dsm_jax.data.texts.PART_BYTES", 1)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_windows_are_those_of_each_file(tmp_path, source, tokenizer):
    stored, encode = tokenize_source([source], tokenizer, 64, tmp_path), load_tokenizer(tokenizer)
    documents = [
        [[encode.bos_id, *encode.encode(text(file, row)), encode.eos_id] for row in range(ROWS)]
        for file in range(FILES)
    ]
    expected = [window for file in documents for window in pack_documents(file, 64)]
    assert len(stored) == len(expected)
    for i, window in enumerate(expected):
        np.testing.assert_array_equal(stored[i]["tokens"], window["tokens"])
        np.testing.assert_array_equal(stored[i]["segment_ids"], window["segment_ids"])
    manifest = stored.manifest
    assert manifest["documents"] == FILES * ROWS
    assert manifest["tokens"] == sum(len(one) for file in documents for one in file)
    assert manifest["text_bytes"] == sum(len(text(f, r)) for f in range(FILES) for r in range(ROWS))


@pytest.mark.parametrize("workers", [0, 1])
def test_small_files_share_their_windows(tmp_path, tokenizer, monkeypatch, workers):
    """A tree of code: hardly any padding, few files; one that changes remakes its part only."""
    monkeypatch.setattr("dsm_jax.data.texts.PART_BYTES", 20_000)
    tree, out = tmp_path / "tree", tmp_path / "out"
    tree.mkdir()
    for number in range(200):
        (tree / f"{number:03}.py").write_text(text(number, number % 7))
    stored = tokenize_source([tree], tokenizer, 512, out, workers=workers)
    encode = load_tokenizer(tokenizer)
    assert stored.manifest["documents"] == 200 and len(stored.manifest["files"]) < 4
    assert stored.manifest["tokens"] > 0.95 * 512 * len(stored)
    first = stored[0]["tokens"][: len(encode.document(text(0, 0)))]
    np.testing.assert_array_equal(first, encode.document(text(0, 0)))
    made = {path.name: path.stat().st_mtime_ns for path in out.glob("*.array_record")}
    (tree / "199.py").write_text("short")
    tokenize_source([tree], tokenizer, 512, out)
    again = {path.name: path.stat().st_mtime_ns for path in out.glob("*.array_record")}
    assert {name for name in again if again[name] != made[name]} == {max(made)}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_byte(tmp_path, source, tokenizer, workers):
    tokenize_source([source], tokenizer, 64, tmp_path / "a", held_out=1000)
    tokenize_source([source], tokenizer, 64, tmp_path / "b", held_out=1000, workers=workers)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_a_share_of_the_documents_is_held_out(tmp_path, source, tokenizer):
    every = tokenize_source([source], tokenizer, 64, tmp_path / "all").manifest
    train = tokenize_source([source], tokenizer, 64, tmp_path / "part", held_out=1000).manifest
    held = StoredWindows(tmp_path / "part" / HELD_OUT).manifest
    for name in ("documents", "tokens", "text_bytes"):
        assert train[name] + held[name] == every[name]
    assert 60 < held["documents"] < 140  # of 1,000
    both = tokenize_source(
        [source, source / "0.jsonl"], tokenizer, 64, tmp_path / "copies", held_out=1000
    ).manifest
    copied = StoredWindows(tmp_path / "copies" / HELD_OUT).manifest["documents"]
    assert (
        both["documents"] + copied == 1200 and copied - held["documents"] > 0
    )  # a copy is held out with its original


def test_the_bytes_of_each_held_out_window_are_those_that_its_targets_spell(tmp_path, tokenizer):
    """Of two languages whose characters have other numbers of bytes: no share of a sum."""
    rows = [text(0, row) if row % 2 else f"第{row}个数在第{row + 1}个之前。" for row in range(ROWS)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": row}) for row in rows))
    tokenize_source([tmp_path / "a.jsonl"], tokenizer, 512, tmp_path / "out", held_out=9_000)
    held = StoredWindows(tmp_path / "out" / HELD_OUT)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    first = 0
    for i, counted in enumerate(held.manifest["target_bytes"]):
        window = held[i]
        sizes = [size_of_piece(pieces, token) for token in window["tokens"].tolist()]
        assert (
            abs(counted - sum(np.array(sizes) * window["loss_mask"])) <= 8
        )  # of a character that is cut at each end
        first += sum(np.array(sizes) * ((window["segment_ids"] > 0) & (window["loss_mask"] == 0)))
    assert len(held) == i + 1 > 10
    assert sum(held.manifest["target_bytes"]) + first == pytest.approx(held.manifest["text_bytes"], rel=2e-3)
    assert "target_bytes" not in StoredWindows(tmp_path / "out").manifest


def size_of_piece(pieces, token: int) -> int:
    if pieces.is_control(token):
        return 0
    return 1 if pieces.is_byte(token) else len(pieces.id_to_piece(token).replace("\u2581", " ").encode())


def test_only_what_changed_is_made_again(tmp_path, source, tokenizer):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in source.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    out = tmp_path / "out"
    before = len(tokenize_source([copy], tokenizer, 64, out))
    made = {path.name: path.stat().st_mtime_ns for path in out.glob("*.array_record")}
    (copy / "2.jsonl").write_text(json.dumps({"text": "short"}))
    (copy / "4.jsonl").unlink()
    assert 0 < len(tokenize_source([copy], tokenizer, 64, out)) < before
    again = {path.name: path.stat().st_mtime_ns for path in out.glob("*.array_record")}
    assert {name for name in again if again[name] != made[name]} == {"part-00002.array_record"}
    assert "part-00004.array_record" not in again and len(StoredWindows(out)) < before


def test_a_kill_between_windows_and_manifest_leaves_no_other_windows(
    tmp_path, source, tokenizer, monkeypatch
):
    """One text, then another, killed, then the first again: not the other's windows."""
    first, second, out = source / "0.jsonl", source / "1.jsonl", tmp_path / "out"
    tokenize_source([first], tokenizer, 64, out)
    made = files_of(out)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(
            "dsm_jax.data.tokenize.write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt())
        )
        tokenize_source([second], tokenizer, 64, out)
    tokenize_source([first], tokenizer, 64, out)
    assert files_of(out) == made


def test_a_copy_of_the_source_elsewhere_is_the_same_source(tmp_path, source, tokenizer):
    out, copy = tmp_path / "out", tmp_path / "moved"
    tokenize_source([source], tokenizer, 64, out)
    made = {file: file.stat().st_mtime_ns for file in out.glob("*.array_record")}
    copy.mkdir()
    for file in source.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    tokenize_source([copy], tokenizer, 64, out)
    assert {file: file.stat().st_mtime_ns for file in out.glob("*.array_record")} == made


def test_windows_of_another_tokenizer_or_length_are_refused_and_stay(tmp_path, source, tokenizer):
    out, other = tmp_path / "out", tmp_path / "other.model"
    tokenize_source([source], tokenizer, 64, out)
    train_sentencepiece([text(1, row) for row in range(60)], other, vocab_size=310)
    made = files_of(out)
    with pytest.raises(
        UserError, match="windows of 64 tokens by this tokenizer, and 32 by this one are asked"
    ):
        tokenize_source([source], tokenizer, 32, out)
    with pytest.raises(UserError, match="windows of 64 tokens by another tokenizer, and 64 by this one"):
        tokenize_source([source], other, 64, out)
    assert files_of(out) == made


def test_a_signal_while_parts_are_handed_out_leaves_the_others_undone(tmp_path, tokenizer, monkeypatch):
    """Of many: the workers do not go through those that they have been given."""
    for file in range(100):
        (tmp_path / f"{file}.jsonl").write_text(json.dumps({"text": text(file, 1)}) + "\n")
    submit, given = ProcessPoolExecutor.submit, []

    def interrupted(pool, *work):
        given.append(work)
        if len(given) == 100:
            raise Preempted("SIGTERM")
        return submit(pool, *work)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", interrupted)
    with pytest.raises(Preempted):
        tokenize_source([tmp_path], tokenizer, 64, tmp_path / "out", workers=1)
    assert len(list((tmp_path / "out").rglob("*.json"))) < 50


def test_a_bad_row_is_named_and_loses_nothing(tmp_path, source, tokenizer):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "a"}\n{"text": 1}\n')
    with pytest.raises(UserError, match=r"bad.jsonl:2: no text in this row"):
        tokenize_source([source, bad], tokenizer, 64, tmp_path / "out", workers=1)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "part-00000.json" in names and "manifest.json" not in names
    bad.write_text('{"text": "a"}\n')
    assert (
        tokenize_source([source, bad], tokenizer, 64, tmp_path / "out").manifest["documents"]
        == FILES * ROWS + 1
    )
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(UserError, match="no text in 1 files"):
        tokenize_source([empty], tokenizer, 64, tmp_path / "none")


LIMITED = """
import resource, sys
from pathlib import Path
from dsm_jax.data import texts
from dsm_jax.data.tokenize import tokenize_source
from dsm_jax.errors import UserError
texts.PART_BYTES = 1
source, tokenizer, out = map(Path, sys.argv[1:])
if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
    try:
        tokenize_source([source], tokenizer, 64, out, workers=1)
    except UserError as error:
        print(error)
"""


def test_a_full_disk_is_told_in_one_line(tmp_path, source, tokenizer):
    """Here a limit on the size of files; a full disk fails in the same call."""
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(LIMITED)
    command = [sys.executable, str(script), str(source), str(tokenizer), str(out)]
    said = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    ).stdout
    assert said.startswith(f"{out}/part-0000") and said.count("\n") == 1
    assert "cannot be written (File too large): make room on its disk, or give another folder" in said
    assert not [*out.glob("part-*.array_record"), *out.glob("*.json")]  # a stopped worker may leave a .tmp


KILLED = """
import sys
from pathlib import Path
from dsm_jax.data import texts
from dsm_jax.data.tokenize import tokenize_source
texts.PART_BYTES = 1
source, tokenizer, out = map(Path, sys.argv[1:])
if __name__ == "__main__":
    tokenize_source([source], tokenizer, 64, out, workers=2)
"""


@pytest.mark.parametrize("after", [0, 2])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, source, tokenizer, after):
    """Killed once `after` parts are done; its workers die with it."""
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(source), str(tokenizer), str(out)]
    run = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True)
    while run.poll() is None and len([*out.glob("part-*.json")]) < after or not out.exists():
        time.sleep(0.001)
    run.send_signal(signal.SIGKILL)
    run.wait()
    until = time.monotonic() + 20
    while time.monotonic() < until and _alive(run.pid):
        time.sleep(0.01)
    assert not _alive(run.pid)
    tokenize_source([source], tokenizer, 64, out)
    tokenize_source([source], tokenizer, 64, tmp_path / "undisturbed")
    assert files_of(out) == files_of(tmp_path / "undisturbed")


def _alive(session: int) -> bool:
    """Whether a process of this session runs."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, own = stat.read_text().rsplit(") ", 1)[1].split()[:4]
        except OSError:
            continue
        if int(own) == session and state != "Z":
            return True
    return False
