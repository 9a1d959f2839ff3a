"""MinHash keys of a text: pages that share one are near duplicates (locality-sensitive hashing).

Shingles are five words in a row, five characters for CJK. Of 9 bands with 13 hashes each, two pages whose shingles
overlap by a Jaccard similarity s share one with probability 1 - (1 - s^13)^9: 0.01 at 0.6, 0.08 at 0.7, 0.40 at 0.8, 0.5 at
0.82, 0.93 at 0.9, 1.00 at 0.95. (FineWeb's 14 bands of 8 have half at 0.69: on short pages of one site, with the site's
words around them, that took different pages for copies.)
Numbers are words here, so that tables of other numbers are other pages; marks are none.
Left out on purpose: a check of each pair by its texts.
"""

import re
from zlib import crc32

import numpy as np
from rensa import RMinHash

from dsm_jax.mine.tokens import CJK

BANDS, ROWS = 9, 13
SHINGLE = 5
MIN_SHINGLES = 20  # of a shorter text a band says little
_SEED = 1
_CJK, _MARKS = re.compile(f"[{CJK}]"), re.compile(r"[^\w\x00-\x7f]+")
_SPACES = bytes(
    byte if chr(byte).isalnum() or byte > 127 else 32 for byte in range(256)
)  # ASCII marks part words
_MIX = np.uint64(0x9E3779B97F4A7C15)
_POWERS = np.array([pow(int(_MIX), power, 2**64) for power in range(1, ROWS + 1)], np.uint64)
_BAND_NUMBERS = np.arange(BANDS, dtype=np.uint64)  # the same hashes in two bands are two keys


def band_keys(text: str) -> np.ndarray:
    """uint64 [BANDS]: one key a band; all 0, which is no key, for a text of fewer than MIN_SHINGLES shingles."""
    shingles = _shingles(text)
    if len(shingles) < MIN_SHINGLES:
        return np.zeros(BANDS, np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        shingles, np.array([0, len(shingles)], np.uint64), num_perm=BANDS * ROWS, seed=_SEED
    )
    hashes = np.array(matrix.to_rows()[0], np.uint64).reshape(BANDS, ROWS)
    return np.maximum(_mixed((hashes * _POWERS).sum(axis=1) + _BAND_NUMBERS), 1)


def _shingles(text: str) -> np.ndarray:
    """uint64: a hash of every five words in a row."""
    words = np.fromiter(map(crc32, _words(text)), np.uint64)
    if len(words) < SHINGLE:
        return words[:0]
    count = len(words) - SHINGLE + 1
    hashes = np.zeros(count, np.uint64)
    for start in range(SHINGLE):
        hashes = hashes * _MIX + words[start : start + count]
    return _mixed(hashes)


def _words(text: str) -> list[bytes]:
    text = text.lower()
    spaced = text if text.isascii() else _CJK.sub(r" \g<0> ", _MARKS.sub(" ", text))
    return spaced.encode(errors="replace").translate(_SPACES).split()


def _mixed(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return values ^ (values >> np.uint64(27))
