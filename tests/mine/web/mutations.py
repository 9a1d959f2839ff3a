"""Damages WARC files at random and reads what is left: python -m tests.mine.web.mutations FOLDER COUNT SEED

Prints a JSON line per damaged file, {name, seconds, records, pages, skipped, broken, missed}: missed are the places
of records that another, slower reading (zlib and a regular expression) finds to be whole.
"""

import json
import random
import re
import sys
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

from dsm_jax.mine.extract.page_text import decode, page_text
from dsm_jax.mine.web.read import find_records
from dsm_jax.mine.web.warc_records import read_records
from tests.mine.warc_files import read_all

HEADER = re.compile(rb"WARC/1\.[01]\r\n((?:[\w-]+: [ -~]*\r\n)+)\r\n")


def mutate(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to four random bit flips, cuts, spliced, deleted or doubled ranges."""
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if not damaged:
            break
        start = rng.randrange(len(damaged))
        end = start + rng.randint(1, max(1, len(damaged) // rng.choice([2, 10, 100])))
        match rng.randrange(5):
            case 0:
                for _ in range(rng.randint(1, 8)):
                    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            case 1:
                del damaged[start:]
            case 2:
                other = rng.choice(others)
                at = rng.randrange(len(other))
                damaged[start:start] = other[at : at + rng.randint(1, 4000)]
            case 3:
                del damaged[start:end]
            case 4:
                damaged[start:start] = damaged[start:end]
    return bytes(damaged)


def unpacked_and_mutated(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """A gzip file damaged before it was compressed: whole members of broken records."""
    plain = b""
    while content:
        inflate = zlib.decompressobj(31)
        plain += inflate.decompress(content)
        content = inflate.unused_data
    pieces = re.split(rb"(?=WARC/1)", mutate(plain, others, rng))
    packers = [zlib.compressobj(1, wbits=31) for _ in pieces]
    return b"".join(
        packer.compress(piece) + packer.flush() for packer, piece in zip(packers, pieces, strict=True)
    )


def record_end(content: bytes, start: int) -> int | None:
    """Where a well-formed record ends; None where there is none."""
    header = HEADER.match(content, start, start + 30_000)
    names = re.findall(rb"(?m)^([\w-]+): ", header[1]) if header else []
    lengths = re.findall(rb"(?m)^Content-Length: (\d{1,9})\r$", header[1]) if header else []
    if header is None or len(lengths) != 1 or len(set(names)) != len(names):
        return None
    end = header.end() + int(lengths[0])
    return end + 4 if content[end : end + 4] == b"\r\n\r\n" else None


def intact(content: bytes) -> list[int]:
    """Where plain records, or gzip members of one record, start and are whole."""
    return _intact_members(content) if content.startswith(b"\x1f\x8b\x08") else _intact_plain(content)


def _intact_plain(content: bytes) -> list[int]:
    found, at = [], 0
    while (at := content.find(b"WARC/1", at)) >= 0:
        end = record_end(content, at)
        found += [at] if end else []
        at = end or at + 1
    return found if content.startswith(b"WARC/1") else []


def _intact_members(content: bytes) -> list[int]:
    found, at = [], 0
    while (at := content.find(b"\x1f\x8b\x08", at)) >= 0:
        inflate = zlib.decompressobj(31)
        try:
            plain = inflate.decompress(content[at:])
        except zlib.error:
            plain = b""
        whole = inflate.eof and record_end(plain, 0) == len(plain)
        found += [at] if whole else []
        at = len(content) - len(inflate.unused_data) if whole else at + 1
    return found


def read_through(path: Path) -> dict[str, object]:
    """Reads as mining does; fails where the numbers do not add up."""
    start = time.process_time()
    blocks, pages, skipped, broken = read_all(path)
    for page in pages:  # a WET file's too: any text must do
        page_text(decode(page.body, page.charset))
    wanted = [page.record_id for page in pages]
    assert Counter(find_records(path, wanted)) == Counter(pages)
    seconds = time.process_time() - start
    places = {found.place.offset for found in read_records(path, lambda record, place: None) if found}
    return {
        "seconds": seconds,
        "records": sum(block.count for block in blocks),
        "pages": len(pages),
        "skipped": skipped,
        "broken": broken,
        "missed": sorted(set(intact(path.read_bytes())) - places),
    }


def main(folder: Path, count: int, seed: int) -> None:
    paths = sorted(folder.iterdir())
    contents = {path.name: path.read_bytes() for path in paths}
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(count):
            name = rng.choice(paths).name
            way = (
                unpacked_and_mutated if name.endswith(("arc.gz", ".gzip")) and rng.random() < 0.4 else mutate
            )
            damaged = Path(scratch) / name
            damaged.write_bytes(way(contents[name], list(contents.values()), rng))
            print(json.dumps({"name": name} | read_through(damaged)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
