"""The mining seed: texts or URLs that a user gives, JSONL rows {text} or {url}."""

import json
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


def read_seed(path: Path) -> Seed:
    """Reads a seed file. Raises UserError for a missing file, a bad row (file:line) or no usable row."""
    if not path.is_file():
        raise UserError(f"--seed {path}: no such file")
    texts, urls = [], set()
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
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
