"""WET files and the WARC files that they were made from: the hits' pages from their own records.

A WET file holds text whose mathematics is lost. Scoring it costs a quarter of reading HTML; so at scale the WET files are
scored and only the collected pages extracted from their WARC records. Left out on purpose: an index (CDX) of offsets: a
WARC file is read through, without HTML work on what is not wanted.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsm_jax.errors import UserError
from dsm_jax.mine.extract.page_text import decode, page_text
from dsm_jax.mine.web.fetch import fetch
from dsm_jax.mine.web.read import find_records


@dataclass(frozen=True)
class WarcText:
    """A page as its WARC record has it."""

    text: str
    offset: int


def pair(wets: Sequence[str], warcs: Sequence[str]) -> list[str | None]:
    """The WARC file of each WET file, by their names without folders: X.warc.wet.gz and X.warc.gz. Raises UserError for a
    WARC file that belongs to none, or where files of one name leave open which belong together."""
    _require_one_of_a_name(wets, warcs)
    warc_of = {_stem(name): name for name in warcs}
    paired = [warc_of.pop(_stem(name), None) for name in wets]
    if warc_of:
        other = next(iter(warc_of.values()))
        raise UserError(
            f"--warc {other}: no --wet file of that name: give the WET files that were made from these files"
        )
    if unpaired := paired.count(None):
        print(
            f"warning: {unpaired} of {len(wets)} --wet files have no --warc file of their name; their pages keep their WET text",
            file=sys.stderr,
            flush=True,
        )
    return paired


def _require_one_of_a_name(wets: Sequence[str], warcs: Sequence[str]) -> None:
    shared = set(map(_stem, wets)) & set(map(_stem, warcs))
    for option, names in (("--wet", wets), ("--warc", warcs)):
        first: dict[str, str] = {}
        for name in names:
            other = first.setdefault(_stem(name), name)
            if other != name and _stem(name) in shared:
                raise UserError(
                    f"{option} {name} and {other}: of one name, so that WET and WARC files cannot be paired: give files of "
                    "different names, or mine them apart, each into its own --out"
                )


def _stem(name: str) -> str:
    return name.rpartition("/")[2].partition(".warc")[0]


def warc_texts(warc: str, downloads: Path, wanted: Collection[str]) -> dict[str, WarcText]:
    """{record id: text} of these records; what the file does not have is left out. Raises Missing where no server gives
    the file, which is not asked for where no record is wanted."""
    if not wanted:
        return {}
    file = fetch(warc, downloads)
    found = {
        page.record_id: WarcText(page_text(decode(page.body, page.charset)), page.offset)
        for page in find_records(file, wanted)
    }
    if file.parent == downloads:
        file.unlink()
    return {record: one for record, one in found.items() if one.text}
