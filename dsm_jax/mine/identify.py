"""What tells one file from another at every start of a run: its name, its size, and a hash of its content or parts of it.

Left out on purpose: whole hashes of large files, which would take longer than all else of a start.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from dsm_jax.errors import UserError
from dsm_jax.mine.web.fetch import is_url

PART_BYTES = 64 << 10  # of a file's content
PARTS = 64  # of one of the user's files
WHOLE_BYTES = 64 << 20  # smaller ones are read whole


def identify_files(option: str, files: Sequence[Path]) -> list[str]:
    """A text for each of the files that an option names. Raises UserError for one that cannot be read."""
    return [_identify_file(option, file) for file in files]


def _identify_file(option: str, file: Path) -> str:
    try:
        return identify(file, PARTS, WHOLE_BYTES)
    except OSError as error:
        raise UserError(f"{option} {file}: cannot be read ({error.strerror})") from None


def identify_source(name: str) -> str:
    """A text for a file of the crawl, by both ends: they are too large and too many for more. A URL stands for itself."""
    return name if is_url(name) else identify(Path(name), parts=2)


def identify(file: Path, parts: int, whole: int = 0) -> str:
    """Name, size, and a hash of the content: all of it up to `whole` bytes, beyond evenly spaced parts with both ends."""
    size = file.stat().st_size
    last = max(0, size - PART_BYTES)
    starts = range(0, size, PART_BYTES) if size <= whole else (last * i // (parts - 1) for i in range(parts))
    digest = sha256()
    with open(file, "rb") as content:
        for start in starts:
            content.seek(start)
            digest.update(content.read(PART_BYTES))
    return f"{file.name} of {size} bytes, {digest.hexdigest()[:16]}"
