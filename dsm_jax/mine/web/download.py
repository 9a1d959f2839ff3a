"""One download from http(s), or from what else fsspec knows (gs, s3, memory, ..), with patience.

Bytes come in pieces. After a cut, the rest is asked for (Range), or everything again where the server does not
give parts or the file has changed. A server that is busy or refuses is asked again after growing waits; one that
says how long to wait is believed.

Left out on purpose: credentials (fsspec's own ways); parts that an earlier process left, which may be of another
version; http through fsspec, which needs one more library and hides the answers' headers.
"""

import email.message
import email.utils
import http.client
import random
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import fsspec  # type: ignore[import-untyped]

from dsm_jax import __version__
from dsm_jax.errors import UserError

CHUNK_BYTES = 1 << 20
SILENT_S = 60.0  # without a byte the connection is taken for dead
BUSY = (403, 429, 500, 502, 503, 504)  # Common Crawl answers 403 when it is asked too often


@dataclass(frozen=True)
class Patience:
    """How often a file is asked for, and how long is waited in between: each time twice as long."""

    tries: int = 8
    first_s: float = 2.0
    most_s: float = 600.0
    """Also of what a server asks for (Retry-After): one that asks for more is given up."""


class Missing(Exception):
    """A file that could not be had; `source` and `reason` say which and why."""

    def __init__(self, source: str, reason: str):
        super().__init__(f"{source}: {reason}")
        self.source, self.reason = source, reason


def download(source: str, file: BinaryIO, patience: Patience) -> None:
    """Writes the content of a URL into an empty file. Raises Missing, or UserError for a URL of no known kind."""
    rng = random.Random(source)  # other waits for other files, the same in each run
    part = _Part(source, file)
    for attempt in range(patience.tries):
        try:
            return part.receive()
        except _Again as again:
            reason, asked_s = str(again), again.wait_s
        if asked_s > patience.most_s:
            raise Missing(source, f"{reason} and asks to wait {asked_s:.0f} s")
        if attempt + 1 < patience.tries:
            own_s = min(patience.most_s, patience.first_s * 2**attempt) * rng.uniform(0.5, 1)
            time.sleep(max(own_s, asked_s))
    raise Missing(source, f"{reason}, the last of {patience.tries} tries")


class _Again(Exception):
    """A try that has failed where another one may not."""

    def __init__(self, reason: str, wait_s: float = 0.0, from_start: bool = False):
        super().__init__(reason)
        self.wait_s, self.from_start = wait_s, from_start


@dataclass(frozen=True)
class _Answer:
    """Content from byte `offset` on; `total` bytes of the whole file and its `version`, where they are known."""

    content: Any
    offset: int
    total: int | None
    version: str | None


class _Part:
    """What has been received of a file."""

    def __init__(self, source: str, file: BinaryIO):
        self._source, self._file = source, file
        self._version: str | None = None
        self._ask = _ask_http if source.startswith(("http://", "https://")) else _ask_fsspec

    def receive(self) -> None:
        """Receives what is missing. Raises _Again, with what has come by then kept, or Missing."""
        try:
            with _failures(self._source):
                answer = self._ask(self._source, self._file.tell(), self._version)
            with closing(answer.content):
                self._version = answer.version
                self._cut(answer.offset)
                while chunk := self._read(answer.content):
                    self._file.write(chunk)
        except _Again as again:
            if again.from_start:
                self._cut(0)
            raise
        if answer.total is not None and self._file.tell() != answer.total:
            raise _Again(
                f"cut off at {self._file.tell()} of {answer.total} bytes",
                from_start=self._file.tell() > answer.total,
            )

    def _read(self, content: Any) -> bytes:
        with _failures(self._source):
            return content.read(CHUNK_BYTES)

    def _cut(self, size: int) -> None:
        self._file.seek(size)
        self._file.truncate()


@contextmanager
def _failures(source: str) -> Iterator[None]:
    """Turns what a network raises into _Again or Missing."""
    try:
        yield
    except (_Again, Missing, UserError):
        raise
    except FileNotFoundError:
        raise Missing(source, "no such file") from None
    except Exception as error:  # noqa: BLE001 - each of fsspec's file systems has errors of its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _Again(reason[:200]) from None


def _ask_http(source: str, have: int, version: str | None) -> _Answer:
    headers = {"User-Agent": f"dsm_jax/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": version} if version else {})
    try:
        answer = urllib.request.urlopen(urllib.request.Request(source, headers=headers), timeout=SILENT_S)
    except urllib.error.HTTPError as error:
        error.close()
        raise _refusal(source, error.code, error.headers, have) from None
    except (ValueError, http.client.InvalidURL) as error:
        raise Missing(source, f"no URL that can be asked for ({error})") from None
    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
    if answer.status != 206:
        length = answer.headers.get("Content-Length")
        return _Answer(answer, 0, int(length) if length else None, version)
    given = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if not given or int(given[1]) != have:
        answer.close()
        raise _Again("answered with another part", from_start=True)
    return _Answer(answer, have, None if given[2] == "*" else int(given[2]), version)


def _refusal(source: str, code: int, headers: email.message.Message, have: int) -> Exception:
    if code in BUSY:
        return _Again(f"answered {code}", _asked_wait(headers.get("Retry-After")))
    if have and code not in (404, 410):
        return _Again(f"answered {code} to a request for the rest", from_start=True)
    return Missing(source, f"answered {code}")


def _asked_wait(retry_after: str | None) -> float:
    """Seconds from now, of a number of seconds or a date; 0 where there is none to be read."""
    try:
        return max(0.0, float(retry_after or 0))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after or "").timestamp() - time.time())
    except ValueError:
        return 0.0


def _ask_fsspec(source: str, have: int, version: str | None) -> _Answer:
    try:
        files, path = fsspec.core.url_to_fs(source)
    except (ValueError, ImportError) as error:
        raise UserError(f"{source}: {error}") from None
    files.invalidate_cache()  # an earlier listing may not know the file yet
    info = files.info(path)
    now = repr((info.get("size"), files.ukey(path)))
    content = files.open(path, "rb")
    offset = have if now == version else 0
    content.seek(offset)
    return _Answer(content, offset, info.get("size"), now)
