"""The crawl's files from wherever they are, as local files: paths, globs, URLs, and lists of them.

A download appears by rename; one that is there already is not made again.

Left out on purpose: globs of URLs, how to download (download.py), throwing away what has been read.
"""

import gzip
import io
import os
import re
import zlib
from collections.abc import Sequence
from glob import glob
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from dsm_jax.errors import UserError
from dsm_jax.mine.web.download import Missing, Patience, download

COMMON_CRAWL = "https://data.commoncrawl.org/"
LISTS = (".paths", ".paths.gz")
_PATIENCE = Patience()


def expand_inputs(
    patterns: Sequence[str], base: str = COMMON_CRAWL, patience: Patience = _PATIENCE, option: str = "--warc"
) -> list[str]:
    """The files that an option names, each once, however it is spelled: URLs as they are, local globs sorted, lists line by
    line.

    A list is a path or URL that ends in .paths or .paths.gz: one path a line, below `base` unless it is a URL.
    Raises UserError where a pattern matches nothing or a list cannot be read.
    """
    files: list[str] = []
    for pattern in patterns:
        for source in [pattern] if is_url(pattern) else _local(pattern, option):
            files += _listed(source, base, patience, option) if source.endswith(LISTS) else [source]
    first: dict[str, str] = {}  # name by what it names
    for file in files:
        first.setdefault(file if is_url(file) else os.path.realpath(file), file)
    return list(first.values())


def is_url(source: str) -> bool:
    """Whether this is a URL rather than a local path."""
    return "://" in source


def fetch(source: str, folder: Path, patience: Patience = _PATIENCE) -> Path:
    """A local file as it is; a URL's content as a file in `folder`, downloaded unless it is there. Raises Missing."""
    if not is_url(source):
        if not Path(source).is_file():
            raise Missing(source, "no such file")
        return Path(source)
    path = folder / local_name(source)
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with open(part, "wb") as file:
            download(source, file, patience)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return path


def local_name(url: str) -> str:
    """The name of a URL's file: the URL's own last part, after letters that tell URLs apart."""
    last = urlsplit(url).path.rstrip("/").rpartition("/")[2]
    return f"{sha256(url.encode()).hexdigest()[:12]}-{re.sub(r'[^A-Za-z0-9._-]', '_', last)[-120:]}"


def _local(pattern: str, option: str) -> list[str]:
    if Path(pattern).is_dir():
        raise UserError(
            f"{option} {pattern}: is a folder; name its files, as {pattern.rstrip('/')}/*.warc.gz"
        )
    if Path(pattern).exists():
        return [pattern]
    found = sorted(filter(os.path.isfile, glob(pattern, recursive=True)))
    if not found:
        raise UserError(
            f"{option} {pattern}: no such file; give WARC or WET files, globs, URLs, or lists (.paths.gz)"
        )
    return found


def _listed(source: str, base: str, patience: Patience, option: str) -> list[str]:
    try:
        content = _read(source, patience)
        text = (gzip.decompress(content) if source.endswith(".gz") else content).decode()
    except (Missing, OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = error.reason if isinstance(error, Missing) else error
        raise UserError(f"{option} {source}: the list cannot be read ({reason})") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{option} {source}: the list names no file")
    return [line if is_url(line) else f"{base.rstrip('/')}/{line.lstrip('/')}" for line in lines]


def _read(source: str, patience: Patience) -> bytes:
    if not is_url(source):
        return Path(source).read_bytes()
    content = io.BytesIO()
    download(source, content, patience)
    return content.getvalue()
