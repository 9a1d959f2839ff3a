"""The texts of a source, from whatever files it comes in: one iterator for corpora, archives, papers and code.

A source is a list of files and folders. `find_parts` makes parts of it, each read by one process from its beginning: files
of one kind in their order, of about 64 MB together, and a larger file by itself. `read_part` gives a part's texts in
their order. By name:
- a folder that the mining stage wrote (its ArrayRecord corpus); any other folder: all that it holds, recursively, but for
  links to folders
- NAME.jsonl, .jsonl.gz, .jsonl.zst: one {"text": ..} a line (OpenWebMath, AlgebraicStack, Proof-Pile, The Stack); NAME.json
  too where it is named itself (in a tree of code it is configuration)
- NAME.parquet: its column of texts
- NAME.warc, .warc.gz: HTML pages, extracted as in mining; NAME.wet, .warc.wet.gz: text as the crawl extracted it
- NAME.tex: LaTeX without preamble, comments, macro definitions and bibliography; rows of arXiv's JSONL likewise
- source code and plain text (CODE, PLAIN): one text a file
Left out on purpose: deduplication and filters, which belong to mining; archives of archives (.tar, .zip).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsm_jax.data.latex import latex_text
from dsm_jax.errors import UserError
from dsm_jax.rows import PARQUET, ROWS, parquet_columns, read_parquet, read_rows
from dsm_jax.tfds_folder import INFO

TEXT_NAMES = ("text", "content", "contents", "raw_content")  # of a row's text, the first that is there
PLAIN = (".txt", ".md", ".rst")
CODE = (
    ".py", ".pyi", ".ipynb", ".c", ".h", ".cc", ".cpp", ".hpp", ".cu", ".java", ".js", ".ts", ".go", ".rs",
    ".jl", ".m", ".r", ".R", ".hs", ".ml", ".mli", ".lean", ".v", ".thy", ".f", ".f90", ".for", ".sage",
    ".gap", ".wl", ".scala", ".kt", ".rb", ".pl", ".php", ".cs", ".swift", ".sh", ".sql", ".lua",
)  # fmt: skip
PART_BYTES = 64 << 20  # of the files in a part, as they are on the disk
LARGEST_FILE = 5 << 20  # bytes of a code or text file; larger ones are data


@dataclass(frozen=True)
class Part:
    """A piece of a source: files, or a folder that holds a dataset."""

    paths: tuple[Path, ...]
    kind: str  # name of their reader in READERS


def find_parts(paths: Sequence[Path]) -> list[Part]:
    """The parts of a source in a fixed order. Raises UserError for a path that is missing, or no text at all."""
    parts = grouped(found for path in paths for found in _files(Path(path)))
    if not parts:
        shown = ", ".join(map(str, paths)) or "nothing"
        raise UserError(
            f"{shown}: no file of a kind that can be read (JSONL, parquet, WARC, WET, LaTeX, text, code)"
        )
    return parts


def grouped(found: Iterable[tuple[Path, str]]) -> list[Part]:
    """Parts of up to PART_BYTES bytes, of (path, kind) in order; a larger file, or a dataset's folder, is a part of its own."""
    parts: list[tuple[str, list[Path]]] = []
    last: dict[str, list[Path]] = {}  # of each kind
    filled: Counter[str] = Counter()
    for path, kind in found:
        size = path.stat().st_size if path.is_file() else PART_BYTES
        if kind not in last or filled[kind] + size > PART_BYTES:
            last[kind], filled[kind] = [], 0
            parts.append((kind, last[kind]))
        last[kind].append(path)
        filled[kind] += size
    return [Part(tuple(paths), kind) for kind, paths in parts]


def read_part(part: Part) -> Iterator[str]:
    """The texts of a part, none of them empty. Raises UserError naming file and row for what cannot be read."""
    for path in part.paths:
        try:
            for text in READERS[part.kind](path):
                if text.strip():
                    yield text
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """(path, kind) of each file in their order, or of the mined corpus."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_file():
        kind = _kind(path)
        if kind is None:
            raise UserError(
                f"{path}: not of a kind that can be read (JSONL, parquet, WARC, WET, LaTeX, text, code)"
            )
        yield path, kind
    elif (path / INFO).is_file():
        yield path, "mined"
    else:
        for file in sorted(path.rglob("*")):  # which follows no link to a folder
            hidden = any(name.startswith(".") for name in file.relative_to(path).parts)
            if file.is_file() and not hidden and file.suffix != ".json" and (kind := _kind(file)):
                yield file, kind


def _kind(file: Path) -> str | None:
    name = file.name
    endings: dict[str, tuple[str, ...]] = {
        "wet": (".wet", ".wet.gz"),
        "warc": (".warc", ".warc.gz"),
        "rows": ROWS,
        "parquet": PARQUET,
        "latex": (".tex",),
        "file": (*CODE, *PLAIN),
    }
    return next((kind for kind, suffixes in endings.items() if name.endswith(suffixes)), None)


def _read_mined(folder: Path) -> Iterator[str]:
    from dsm_jax.mine.corpus.export import read_corpus  # tfds takes seconds to import

    corpus = read_corpus(folder)
    for index in range(len(corpus)):
        yield corpus[index]["text"]


def _read_rows(file: Path) -> Iterator[str]:
    for place, row in read_rows(file):
        yield _text_of(row, place)


def _text_of(row: Any, place: str) -> str:
    """A row's text; LaTeX where the row says that it is an arXiv source."""
    if not isinstance(row, dict):
        raise UserError(f"{place}: a row must be an object with a text, not {row!r:.40}")
    text = next((row[name] for name in TEXT_NAMES if isinstance(row.get(name), str)), None)
    if text is None:
        raise UserError(f"{place}: no text in this row; it must have one of {', '.join(TEXT_NAMES)}")
    return latex_text(text) if r"\documentclass" in text[:20_000] and r"\begin{document}" in text else text


def _read_parquet(file: Path) -> Iterator[str]:
    names = parquet_columns(file)
    column = next((name for name in TEXT_NAMES if name in names), None)
    if column is None:
        raise UserError(f"{file}: no column of texts ({', '.join(TEXT_NAMES)}); it has {', '.join(names)}")
    for place, row in read_parquet(file, [column]):
        if row[column] is not None:
            yield _text_of({"text": row[column]}, place)


def _read_warc(file: Path) -> Iterator[str]:
    from dsm_jax.mine.extract.page_text import decode, page_text
    from dsm_jax.mine.web.read import Page, check_warcs, index_warc, read_block

    def text_of(page: Page) -> str:
        text = decode(page.body, page.charset)
        return page_text(text) if page.is_html else text

    check_warcs([file], "--sources")
    for block in index_warc(file)[0]:
        yield from read_block(block, text_of).pages


def _read_latex(file: Path) -> Iterator[str]:
    yield latex_text(file.read_bytes().decode("utf-8", "replace"))


def _read_file(file: Path) -> Iterator[str]:
    if file.stat().st_size <= LARGEST_FILE:
        text = file.read_bytes().decode("utf-8", "replace")
        yield _cells(text) if file.suffix == ".ipynb" else text


def _cells(notebook: str) -> str:
    """The code and words of a notebook, without outputs; "" where it is none."""
    try:
        cells = json.loads(notebook)["cells"]
        return "\n\n".join(
            "".join(cell["source"]) for cell in cells if cell["cell_type"] in ("code", "markdown")
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


READERS: dict[str, Callable[[Path], Iterator[str]]] = {
    "mined": _read_mined,
    "rows": _read_rows,
    "parquet": _read_parquet,
    "warc": _read_warc,
    "wet": _read_warc,
    "latex": _read_latex,
    "file": _read_file,
}
