"""Readers of every form give the same texts in the same order, and one line for what they cannot read."""

from __future__ import annotations

import gzip
import io
import json
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from fastwarc import ArchiveIterator, WarcRecordType

from dsm_jax.data.instructions import read_sft
from dsm_jax.data.latex import latex_text
from dsm_jax.data.texts import Part, find_parts, read_part
from dsm_jax.errors import UserError
from dsm_jax.mine.corpus.export import write_corpus

TEXTS = ["Let $x = 3$.\n\nThen $x^2 = 9$.", "第二篇", "a < b"]
ROWS = "".join(json.dumps({"text": text, "meta": {"n": 1}}) + "\n" for text in TEXTS).encode()


def texts_of(*paths: Path) -> list[str]:
    return [text for part in find_parts(paths) for text in read_part(part)]


def refused(*paths: Path) -> str:
    with pytest.raises(UserError) as error:
        texts_of(*paths)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "name, data",
    [
        ("rows.jsonl", ROWS),
        ("bom.jsonl", b"\xef\xbb\xbf" + ROWS + b"\n\n"),
        ("rows.jsonl.gz", gzip.compress(ROWS)),
        ("rows.jsonl.zst", zstandard.compress(ROWS)),
        ("frames.jsonl.zst", zstandard.compress(ROWS[:30]) + zstandard.compress(ROWS[30:])),
        ("others.json", ROWS.replace(b'"text"', b'"content"')),
    ],
)
def test_rows(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    assert texts_of(tmp_path / name) == TEXTS
    if name.endswith(".json"):
        assert "no file of a kind" in refused(tmp_path)
    else:
        assert texts_of(tmp_path) == TEXTS


def test_parquet(tmp_path):
    table = pyarrow.table({"url": ["a", "b", "c", "d"], "text": [*TEXTS, None]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    assert texts_of(tmp_path) == TEXTS
    pyarrow.parquet.write_table(pyarrow.table({"url": ["a"]}), tmp_path / "b.parquet")
    assert "b.parquet: no column of texts (text, content, contents, raw_content); it has url" in refused(
        tmp_path
    )
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-30])
    assert "b.parquet: not a parquet file, or damaged" in refused(tmp_path)


def test_a_mined_corpus(tmp_path):
    provenance = {"url": "u", "warc": "w", "offset": 0, "score": 1.0, "iteration": 1, "language": "en"}
    write_corpus([{"text": text} | provenance for text in TEXTS], tmp_path / "corpus")
    assert texts_of(tmp_path / "corpus") == TEXTS
    assert find_parts([tmp_path / "corpus"]) == [Part((tmp_path / "corpus",), "mined")]


def test_a_tree_of_code_and_notes(tmp_path):
    notebook = {"cells": [
        {"cell_type": "markdown", "source": ["# Sums\n", "of squares"]},
        {"cell_type": "code", "source": ["1 + 1"], "outputs": [{"text": "2"}]},
        {"cell_type": "raw", "source": ["no"]},
    ]}  # fmt: skip
    files = {
        "b/main.py": "print(1)\n", "a.md": "# A", "b/c.lean": "theorem x : 1 = 1 := rfl", "n.ipynb": json.dumps(notebook),
        "broken.ipynb": "{", "empty.py": " \n", "image.png": "no text", ".git/x.py": "hidden", "package.json": "{", "b/.y.py": "hidden",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert texts_of(tmp_path) == ["# A", files["b/c.lean"], "print(1)\n", "# Sums\nof squares\n\n1 + 1"]
    assert texts_of(tmp_path / "b/main.py", tmp_path / "a.md") == ["print(1)\n", "# A"]  # in the order given


def test_small_files_of_a_kind_are_a_part_together(tmp_path, monkeypatch):
    """In order, to the size of a part; a larger file, and a corpus, by itself."""
    sizes = {
        "a.py": 40,
        "b.py": 40,
        "c.tex": 30,
        "d.py": 20,
        "e.py": 10,
        "f.py": 500,
        "g.py": 1,
        "h.tex": 70,
        "i.tex": 1,
    }
    for name, size in sizes.items():
        (tmp_path / name).write_text("x" * size)
    monkeypatch.setattr("dsm_jax.data.texts.PART_BYTES", 100)
    parts = find_parts([tmp_path])
    names = ["".join(path.stem for path in part.paths) for part in parts]
    assert names == ["abd", "ch", "e", "f", "g", "i"] and parts[1].kind == "latex"
    provenance = {"url": "u", "warc": "w", "offset": 0, "score": 1.0, "iteration": 1, "language": "en"}
    write_corpus([{"text": "a"} | provenance], tmp_path / "corpus")
    assert len(find_parts([tmp_path / "corpus", tmp_path / "corpus"])) == 2


def test_links_to_folders_are_not_followed(tmp_path):
    (tmp_path / "tree/deep").mkdir(parents=True)
    (tmp_path / "tree/deep/a.jsonl").write_bytes(ROWS.replace(b'"text"', b'"question": "q", "answer"'))
    (tmp_path / "tree/deep/self").symlink_to(tmp_path / "tree")
    (tmp_path / "link").symlink_to(tmp_path / "tree")
    for path in (tmp_path / "tree", tmp_path / "link"):  # one that is named is read
        assert [part.paths for part in find_parts([path])] == [(path / "deep/a.jsonl",)]
        assert len(list(read_sft([path]))) == 3


def test_bad_rows_name_file_and_line(tmp_path):
    file = tmp_path / "rows.jsonl"
    for line, said in (
        (b"{", "rows.jsonl:4: not a row of JSON"),
        (b"[" * 100_000, "rows.jsonl:4: not a row of JSON"),
        (b"[1]", "rows.jsonl:4: a row must be an object"),
        (b'{"text": 5}', "rows.jsonl:4: no text in this row"),
        (b'{"text": "\xff"}', "rows.jsonl:4: not a row of JSON"),
    ):
        file.write_bytes(ROWS + line + b"\n" + ROWS)
        assert said in refused(file)
    packed, zst = gzip.compress(ROWS), zstandard.compress(ROWS)
    for name, data in (
        ("cut.jsonl.gz", packed[:20]),
        ("other.jsonl.gz", b"no" + packed),
        ("sum.jsonl.gz", packed[:-8] + b"abcdefgh"),
        ("other.jsonl.zst", b"no" + zst),
    ):
        (tmp_path / name).write_bytes(data)
        assert f"{name}:{4 if name.startswith('sum') else 1}: damaged" in refused(tmp_path / name)


LINES = [json.dumps({"text": f"line {i} " + "é" * (i % 50)}).encode() + b"\n" for i in range(8_000)]
FRAMES = {
    "one block": [b"".join(LINES[:20])],
    "several blocks": [b"".join(LINES)],  # of at most 128 kB each
    "several frames": [LINES[0], b"".join(LINES[1:4_000]), b"".join(LINES[4_000:])],
}


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("read", [texts_of, lambda file: list(read_sft([file]))], ids=["texts", "sft"])
def test_a_cut_zst_is_damaged_wherever_it_is_cut(tmp_path, name, read):
    """Else half a download would pass as a whole, shorter file."""
    file = tmp_path / "a.jsonl.zst"
    frames = [
        zstandard.compress(frame.replace(b'"}', b'", "question": "q", "answer": "a"}'))
        for frame in FRAMES[name]
    ]
    file.write_bytes(b"".join(frames))
    assert len(read(file)) == sum(frame.count(b"\n") for frame in FRAMES[name])
    data, whole = file.read_bytes(), {sum(map(len, frames[:i])) for i in range(len(frames) + 1)}
    blocks = [sum(map(len, frames[:-1])) + end for end in ends_of_blocks(frames[-1])]
    for cut in {1, 4, len(frames[0]) - 1, len(data) // 2, len(data) - 1, *blocks} - whole:
        file.write_bytes(data[:cut])
        with pytest.raises(UserError, match=r"a\.jsonl\.zst:\d+: damaged \(.*\); fetch it again"):
            read(file)


def ends_of_blocks(frame: bytes) -> list[int]:
    """Where each block of a zstd frame ends (RFC 8878, section 3.1.1)."""
    at, ends = zstandard.frame_header_size(frame), []
    while at < len(frame):
        header = int.from_bytes(frame[at : at + 3], "little")
        at += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
        ends.append(at)
        if header & 1:
            break
    return ends


def test_paths_that_hold_no_text(tmp_path):
    assert "nowhere: no such file or folder" in refused(tmp_path / "nowhere")
    assert "no file of a kind that can be read" in refused(tmp_path)
    (tmp_path / "x.png").touch()
    assert "x.png: not of a kind that can be read" in refused(tmp_path / "x.png")


PAPER = r"""\documentclass{article}
\newcommand{\R}{\mathbb{R}}
\newcommand\norm[1]{\lVert #1\rVert}
\renewcommand*{\S}{\sum_{i}}
\def\half{\frac{1}{2}}
\def\pair#1#2{(#1,#2)}
\DeclareMathOperator{\tr}{tr}
\newcommand{\RR}{\R\times\R}
\begin{document}
% a whole line
\title{T} % half a line
Let $x \in \RR$, 50\% of $\norm{x}$ and $\half\tr A$ \\% after a line's end
in \Rest.
\begin{verbatim}
100% kept
\end{verbatim}
\begin{comment}
never seen
\end{comment}



The end.
\bibliographystyle{plain}
\bibliography{refs}
\begin{thebibliography}{9}
\bibitem{a} A.
\end{thebibliography}
\end{document}
after
"""
READ = r"""\title{T}
Let $x \in \mathbb{R}\times\mathbb{R}$, 50\% of $\norm{x}$ and $\frac{1}{2}\operatorname{tr} A$ \\
in \Rest.
\begin{verbatim}
100% kept
\end{verbatim}

The end."""


def test_latex(tmp_path):
    assert latex_text(PAPER) == READ
    (tmp_path / "a.tex").write_text(PAPER)
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": PAPER}))
    assert texts_of(tmp_path) == [READ, READ]
    assert latex_text("only words, 5 % hidden") == "only words, 5"


@pytest.mark.parametrize(
    "source",
    [r"\def\a{\b}\def\b{\a}\a", r"\newcommand{\x}{\x\x} \x", r"\def", "{" * 5000, r"\newcommand{\x}{"],
)
def test_latex_that_would_not_end(source):
    """Macros that mean each other, grow, or never close."""
    assert len(latex_text(source)) <= 2 * len(source) + 1000


@pytest.mark.parametrize(
    "piece", [r"\begin{verbatim}", r"\newcommand{\x}{", r"\def\x{{", "%", r"\begin{document}"]
)
def test_latex_of_one_thing_again_and_again(piece):
    """What never closes is read in seconds, not in minutes."""
    start = time.process_time()
    latex_text(piece * (60_000 // len(piece)))
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "the file is empty"), (b"<html>503</html>", "corrupt")]
)
def test_an_archive_without_a_record_is_told_with_its_option(tmp_path, content, message):
    (tmp_path / "a.warc.gz").write_bytes(content)
    with pytest.raises(UserError, match=rf"^--sources {tmp_path}/a\.warc\.gz: {message}"):
        texts_of(tmp_path / "a.warc.gz")


def test_real_archives(dsm_data):
    """Counts by fastwarc and by hand; every broken sample ends in texts or in one line."""
    folder = dsm_data / "warc_samples"
    with (folder / "whirlwind-python__whirlwind.warc.wet.gz").open("rb") as stream:
        conversions = sum(1 for _ in ArchiveIterator(stream, record_types=WarcRecordType.conversion))
    wet = texts_of(folder / "whirlwind-python__whirlwind.warc.wet.gz")
    assert len(wet) == conversions >= 1
    page = texts_of(folder / "whirlwind-python__whirlwind.warc.gz")
    assert len(page) == 1 and len(page[0]) > 200
    for part in find_parts([folder]):
        try:
            assert all(isinstance(text, str) for text in read_part(part))
        except UserError as error:
            assert any(path.name in str(error) for path in part.paths)


def test_real_rows(dsm_data):
    rows = find_parts([dsm_data / "web/seed_texts.jsonl.gz"])
    texts = [text for part in rows for text in read_part(part)]
    with gzip.open(dsm_data / "web/seed_texts.jsonl.gz") as file:
        assert len(texts) == sum(1 for _ in io.BufferedReader(file))
