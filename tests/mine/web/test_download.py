"""Downloads from a real server on this machine that misbehaves as asked."""

import email.utils
import io
import random
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dsm_jax.mine.web import download as download_module
from dsm_jax.mine.web.download import Missing, Patience, download
from dsm_jax.mine.web.fetch import fetch

QUICK = Patience(tries=4, first_s=0.001, most_s=2.0)
CONTENT = random.Random(0).randbytes(300_000)


class Server(ThreadingHTTPServer):
    """Answers each request by the next of `plan`, a function of the handler, and the last one ever after."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.requests, self.times = [], [], []
        self.url = f"http://127.0.0.1:{self.server_port}/crawl/a.warc.gz"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(dict(self.headers))
        self.server.times.append(time.monotonic())
        plan = self.server.plan
        (plan.pop(0) if len(plan) > 1 else plan[0])(self)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def status(code, **headers):
    def answer(handler):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def content(sent=None, etag='"1"', ranges=True, length=True, body=CONTENT, shift=0):
    """The file, of which only the first `sent` bytes come."""

    def answer(handler):
        asked = re.match(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = 0
        if asked and ranges and handler.headers.get("If-Range", etag) == etag:
            start = int(asked[1])
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start + shift}-{len(body) - 1}/{len(body)}")
        if etag:
            handler.send_header("ETag", etag)
        if length:
            handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        handler.wfile.write(body[start : len(body) if sent is None else start + sent])

    return answer


def get(server, patience=QUICK):
    file = io.BytesIO()
    download(server.url, file, patience)
    return file.getvalue()


def test_content_comes_with_the_first_answer(server):
    server.plan = [content()]
    assert get(server) == CONTENT
    (request,) = server.requests
    assert request["User-Agent"].startswith("dsm_jax/") and "Range" not in request


@pytest.mark.parametrize("code", [403, 429, 500, 502, 503, 504])
def test_busy_server_is_asked_again(server, code):
    server.plan = [status(code), status(code), content()]
    assert get(server) == CONTENT and len(server.requests) == 3


def test_waits_grow_and_retry_after_is_honoured(server):
    server.plan = [status(503), status(503), status(429, Retry_After="1"), content()]
    assert get(server, Patience(tries=4, first_s=0.1, most_s=5.0)) == CONTENT
    first, second, third = (b - a for a, b in zip(server.times, server.times[1:], strict=False))
    assert 0.05 <= first < 0.5 and 0.1 <= second < 0.6 and 1.0 <= third < 2.0


def test_retry_after_as_a_date(server):
    moment = email.utils.formatdate(time.time() + 2, usegmt=True)  # whole seconds: 1 to 2 from now
    server.plan = [status(503, Retry_After=moment), content()]
    assert get(server, Patience(tries=2, first_s=0.001, most_s=9.0)) == CONTENT
    assert 0.9 <= server.times[1] - server.times[0] <= 2.5


@pytest.mark.parametrize("value", ["", "soon", "-5", "Mon, 99 Foo 2020", "1e400x"])
def test_retry_after_that_says_nothing(server, value):
    server.plan = [status(503, Retry_After=value), content()]
    assert get(server) == CONTENT


@pytest.mark.parametrize("value", ["86400", "inf", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_server_that_asks_for_too_long_is_given_up_at_once(server, value):
    server.plan = [status(503, Retry_After=value)]
    with pytest.raises(Missing, match="answered 503 and asks to wait"):
        get(server)
    assert len(server.requests) == 1


def test_forbidden_for_ever_is_missing(server):
    server.plan = [status(403)]
    with pytest.raises(Missing) as caught:
        get(server)
    assert caught.value.source == server.url and caught.value.reason == "answered 403, the last of 4 tries"
    assert len(server.requests) == 4


@pytest.mark.parametrize("code", [404, 410, 401, 400])
def test_what_is_not_there_is_missing_at_once(server, code):
    server.plan = [status(code)]
    with pytest.raises(Missing, match=f"answered {code}$"):
        get(server)
    assert len(server.requests) == 1


def test_cut_download_goes_on_where_it_was(server):
    server.plan = [content(100_000), status(503), content(150_000), content()]
    assert get(server) == CONTENT
    assert [request.get("Range") for request in server.requests] == [
        None,
        "bytes=100000-",
        "bytes=100000-",
        "bytes=250000-",
    ]
    assert server.requests[1]["If-Range"] == '"1"'


@pytest.mark.parametrize(
    "second",
    [
        content(ranges=False),  # the server does not give parts
        content(etag='"2"'),  # the file has changed
    ],
)
def test_cut_download_starts_again_where_it_cannot_go_on(server, second):
    server.plan = [content(100_000, body=b"?" * 200_000), second]
    assert get(server) == CONTENT and len(server.requests) == 2


@pytest.mark.parametrize("second", [content(shift=7), status(416), status(400)])
def test_wrong_answers_to_a_range_start_again(server, second):
    server.plan = [content(100_000), second, content()]
    assert get(server) == CONTENT
    assert [request.get("Range") for request in server.requests] == [None, "bytes=100000-", None]


def test_file_that_is_gone_in_the_middle_is_missing(server):
    server.plan = [content(100_000), status(404)]
    with pytest.raises(Missing, match="answered 404"):
        get(server)


def test_always_cut_is_missing_and_leaves_nothing(server, tmp_path):
    server.plan = [content(10_000)]
    with pytest.raises(Missing, match="cut off at 40000 of 300000 bytes, the last of 4 tries"):
        fetch(server.url, tmp_path, QUICK)
    assert list(tmp_path.iterdir()) == []


def test_without_a_length_the_end_is_the_end(server):
    server.plan = [content(length=False, etag=None)]
    assert get(server) == CONTENT


def test_server_that_is_silent_or_not_there(server, monkeypatch):
    monkeypatch.setattr(download_module, "SILENT_S", 0.1)
    server.plan = [lambda handler: time.sleep(0.5), content()]
    assert get(server) == CONTENT
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(Missing, match="refused"):
        download(url, io.BytesIO(), QUICK)


@pytest.mark.parametrize(
    "url", ["http://", "http://a b/c", "http://[::1", "http://ü.example/ü", "http://127.0.0.1:99999/"]
)
def test_urls_that_are_none(url):
    with pytest.raises(Missing):
        download(url, io.BytesIO(), QUICK)


def test_fetched_file_is_whole_once_and_stays(server, tmp_path):
    server.plan = [content(100_000), content()]
    path = fetch(server.url, tmp_path / "new", QUICK)
    assert path.read_bytes() == CONTENT and path.name.endswith("-a.warc.gz")
    assert fetch(server.url, tmp_path / "new", QUICK) == path and len(server.requests) == 2
    path.unlink()
    (tmp_path / "new" / (path.name + ".part")).write_bytes(b"left by a killed run")
    assert fetch(server.url, tmp_path / "new", QUICK).read_bytes() == CONTENT
    assert list((tmp_path / "new").iterdir()) == [path]


def test_download_is_streamed(server, monkeypatch):
    """Never more than a chunk at once."""
    monkeypatch.setattr(download_module, "CHUNK_BYTES", 1000)
    sizes = []

    class File(io.BytesIO):
        def write(self, piece):
            sizes.append(len(piece))
            return super().write(piece)

    server.plan = [content()]
    download(server.url, File(), QUICK)
    assert max(sizes) <= 1000 and sum(sizes) == len(CONTENT)


def test_full_disk_is_no_missing_file(server):
    class Full(io.BytesIO):
        def write(self, piece):
            raise OSError(28, "No space left on device")

    server.plan = [content()]
    with pytest.raises(OSError, match="No space"):
        download(server.url, Full(), QUICK)
    assert len(server.requests) == 1
