"""The annotation page over HTTP, on this machine only.

Page text is hostile: it is sent as JSON and put into the page as text; the page's policy allows its own
script and style only, and no connection elsewhere. Requests by another name for this machine (DNS rebinding)
and decisions sent by another site's page are refused.

Left out on purpose: users and passwords (who can start programs on this machine could write the file itself),
TLS, other machines (ssh -L PORT:127.0.0.1:PORT brings the page to one).
"""

import errno
import json
import socketserver
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dsm_jax.errors import UserError
from dsm_jax.mine.annotate.state import AnnotationState

ADDRESS = "127.0.0.1"
_MAX_BODY = 64 << 10
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/tree.js": ("tree.js", "text/javascript"),
    "/saving.js": ("saving.js", "text/javascript"),
}


class Refused(Exception):
    """An answer other than 200: its status and a line for the user."""

    def __init__(self, status: HTTPStatus, line: str):
        super().__init__(line)
        self.status = status


class AnnotationServer(ThreadingHTTPServer):
    """Serves the page of one run. Raises UserError where the port is taken; port 0 takes a free one."""

    daemon_threads = True

    def __init__(self, state: AnnotationState, port: int):
        self.state = state
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            why = "another program has it" if error.errno == errno.EADDRINUSE else error.strerror
            raise UserError(f"--port {port}: {why}: give another, or 0 for any") from None
        self.port: int = self.server_address[1]
        self.hosts = {f"{ADDRESS}:{self.port}", f"localhost:{self.port}"}
        self.url = f"http://{ADDRESS}:{self.port}/"

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's would ask DNS for this machine's name
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the browser has gone on
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection of a browser."""

    protocol_version = "HTTP/1.1"
    timeout = 60  # s
    server: AnnotationServer

    def do_GET(self) -> None:
        self._respond(self._get)

    def do_POST(self) -> None:
        self._respond(self._post)

    def _get(self) -> tuple[bytes, str]:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        if path in _FILES:
            name, kind = _FILES[path]
            return Path(__file__).with_name(name).read_bytes(), kind
        state = self.server.state
        routes: Mapping[str, Callable[[], dict[str, Any]]] = {
            "/api/overview": state.overview,
            "/api/domain": lambda: state.domain(_one(query, "domain")),
            "/api/samples": lambda: state.samples(_one(query, "domain"), _one(query, "prefix")),
        }
        if path not in routes:
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")
        return _json(routes[path]())

    def _post(self) -> tuple[bytes, str]:
        self._require_own_page()
        if urlsplit(self.path).path != "/api/decision":
            raise Refused(HTTPStatus.NOT_FOUND, "there is no such page")
        row = self._body()
        name, prefix, accept = row.get("domain"), row.get("prefix"), row.get("accept", "")
        if not isinstance(name, str) or not isinstance(prefix, str):
            raise Refused(HTTPStatus.BAD_REQUEST, "a decision needs domain and prefix")
        if not (accept is None or isinstance(accept, bool)):
            raise Refused(HTTPStatus.BAD_REQUEST, "a decision needs accept: true, false or null")
        return _json(self.server.state.decide(name, prefix, accept))

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "no decision is so long")
        try:
            row = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, "a decision is a JSON object")
        return row

    def _require_own_page(self) -> None:
        """Another site's page can send here too, but not with this origin, nor JSON unless it is let."""
        origins = {f"http://{host}" for host in self.server.hosts}
        if self.headers.get("Origin") not in origins:
            raise Refused(HTTPStatus.FORBIDDEN, "decisions are taken from this server's own page only")
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a decision is sent as application/json")

    def _respond(self, answer: Callable[[], tuple[bytes, str]]) -> None:
        status = HTTPStatus.OK
        try:
            if self.headers.get("Host") not in self.server.hosts:
                raise Refused(HTTPStatus.FORBIDDEN, f"open {self.server.url}: this page has no other name")
            body, kind = answer()
        except Refused as refused:
            status, (body, kind) = refused.status, _json({"error": str(refused)})
        except UserError as error:
            status, (body, kind) = HTTPStatus.CONFLICT, _json({"error": str(error)})
        except ConnectionError:
            raise
        except OSError as error:
            line = f"{error.filename or self.server.state.file}: {error.strerror}"
            status, (body, kind) = HTTPStatus.INTERNAL_SERVER_ERROR, _json({"error": line})
        if status != HTTPStatus.OK:
            self.close_connection = True  # a body that was not read would be taken for the next request
        self._send(status, body, kind)

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "dsm_jax"

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the terminal is for errors."""


def _one(query: Mapping[str, list[str]], name: str) -> str:
    if len(query.get(name, ())) != 1:
        raise Refused(HTTPStatus.BAD_REQUEST, f"the address needs one {name}")
    return query[name][0]


def _json(value: Any) -> tuple[bytes, str]:
    return json.dumps(value, ensure_ascii=True).encode(), "application/json"
