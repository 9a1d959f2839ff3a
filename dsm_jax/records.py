"""Writing ArrayRecord files, a full disk told in one line: the library raises it as a RuntimeError, often only at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dsm_jax.errors import UserError


def write_records(file: Path, records: Iterable[bytes], options: str = "group_size:1") -> int:
    """Writes the records to an ArrayRecord file; returns their number. Raises UserError where it cannot be written.

    options: of ArrayRecord; one record a group is what random access reads fastest.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    with _told(file):
        writer = ArrayRecordWriter(str(file), options)
    count = 0
    for record in records:  # whose own errors stay what they are
        with _told(file):
            writer.write(record)
        count += 1
    with _told(file):
        writer.close()
    return count


@contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = str(error).removeprefix("write() failed: ").split("; ")[0]
        raise UserError(
            f"{file} cannot be written ({reason}): make room on its disk, or give another folder, and start again; what "
            "is finished stays"
        ) from error
