"""The mining seed: texts or URLs that a user gives, JSONL rows {text} or {url}."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dsm_jax.errors import UserError
from dsm_jax.mine.classify import fasttext_tokens
from dsm_jax.mine.pages import canonical_url


@dataclass(frozen=True)
class Seed:
    """Tokenised texts from outside the crawl, and canonical URLs of pages inside it."""

    texts: tuple[str, ...]
    urls: frozenset[str]


def input_lines(option: str, path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank of a user's JSONL file, numbered from 1. Raises UserError without a file."""
    try:
        if not path.is_file():
            raise UserError(f"{option} {path}: no such file")
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be read ({error.strerror})") from None
    for number, line in enumerate(text.split("\n"), start=1):  # JSON strings may hold U+2028 and U+0085
        if line.strip():
            yield number, line


def read_seed(path: Path) -> Seed:
    """Reads a seed file. Raises UserError for a missing file, a bad row (file:line) or no usable row."""
    texts, urls = [], set()
    for number, line in input_lines("--seed", path):
        try:
            row = json.loads(line)
        except ValueError:
            raise UserError(
                f"--seed {path}:{number}: not JSON: give one object {{text}} or {{url}} a line"
            ) from None
        if not isinstance(row, dict) or not isinstance(row.get("text", row.get("url")), str):
            raise UserError(f"--seed {path}:{number}: needs a string under text or url")
        if "text" in row:
            texts.append(fasttext_tokens(row["text"]))
        else:
            urls.add(canonical_url(row["url"]))
    texts = [text for text in texts if text]
    if not texts and not urls:
        raise UserError(f"--seed {path}: no usable text: give JSONL rows {{text}} or {{url}}")
    return Seed(tuple(texts), frozenset(urls))
