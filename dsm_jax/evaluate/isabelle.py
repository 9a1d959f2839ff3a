"""A client of `isabelle server`, the resident server of the Isabelle distribution (The Isabelle System Manual, chapter 4).

Its protocol is a documented TCP socket with a password and lines of JSON: no build of ours and no package stands between,
as with PISA's gRPC, which wants a fork of Isabelle of one year. Theories are files: the server has to see the folder that
they are written to. Left out on purpose: starting a server (`isabelle server -n dsm`, which prints its port and password),
what a proof is (proofs.py).
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self
from uuid import uuid4

from dsm_jax.errors import UserError

SESSIONS = ("HOL-Library", "HOL-Computational_Algebra", "HOL-Number_Theory", "HOL-Analysis")
CONNECT_S = 10.0  # to connect and be let in; also for each immediate answer
START_S = 1800.0  # to start a session; the server builds what it lacks
GRACE_S = 30.0  # that the server may take longer than its own limit
CHECK_DELAY_S = 0.25  # between the server's looks at how far a theory is
MOST_BYTES = 1 << 28  # of a message
_MESSAGE = re.compile(rb"([A-Za-z0-9_.]+)[ \t]*(.*)", re.DOTALL)


class IsabelleError(UserError):
    """The server gives no verdict: it is not there, refuses, breaks off, or is too late."""


class Checked(NamedTuple):
    """What the server says of a theory."""

    ok: bool  # every command went through, to the theory's end, in time
    messages: tuple[str, ...]  # regular output, in order
    errors: tuple[str, ...]


class IsabelleClient:
    """A session of a server at host:port. Raises IsabelleError where it cannot be had.

    session: the image to start from; include_sessions: whose theories may be imported; dirs: where the server finds more of
    them (the Archive of Formal Proofs' thys). folder: where theories are written, seen by both sides under this name;
    None: the session's own. A lost connection is made anew by the next check.
    """

    def __init__(
        self,
        address: str,
        password: str,
        *,
        session: str = "HOL",
        include_sessions: Sequence[str] = SESSIONS,
        dirs: Sequence[str] = (),
        folder: Path | None = None,
        connect_s: float = CONNECT_S,
        grace_s: float = GRACE_S,
    ):
        host, colon, port = address.rpartition(":")
        if not (colon and host and port.isdigit() and int(port) < 1 << 16):
            raise IsabelleError(
                f"isabelle server {address}: give host:port, as `isabelle server -l` lists them"
            )
        self.address, self._place, self._password = address, (host, int(port)), password
        self._wanted = {"session": session, "include_sessions": [*include_sessions], "dirs": [*dirs]}
        self._connect_s, self._grace_s, self._folder = connect_s, grace_s, folder
        self._connection: socket.socket | None = None
        self._session, self._tmp = "", Path()
        self._ensure_session()

    def check(self, theories: Mapping[str, str], limit_s: float) -> dict[str, Checked]:
        """Name -> text of theories, processed side by side; one that is not done after limit_s is not ok.

        A name must be unused in the session. Raises IsabelleError where there is no verdict.
        """
        self._ensure_session()
        folder = (self._folder or self._tmp) / f"dsm-{uuid4().hex}"
        theirs = {"session_id": self._session, "theories": [*theories], "master_dir": str(folder)}
        limits = {"check_delay": CHECK_DELAY_S, "check_limit": max(1, round(limit_s / CHECK_DELAY_S))}
        asked = theirs | limits | {"watchdog_timeout": limit_s, "pretty_margin": 10_000.0}
        try:
            folder.mkdir()
            for name, text in theories.items():
                (folder / f"{name}.thy").write_text(text, encoding="utf-8")
            results = self._task("use_theories", asked, limit_s + self._grace_s)
            self._purge(theirs)
            return _checked(results, theories)
        except OSError as error:
            raise IsabelleError(
                f"{folder}: theories cannot be written there ({error}); give a folder that the server sees under this name"
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _purge(self, theories: Mapping[str, Any]) -> None:
        try:
            self._immediate("purge_theories", theories)
        except IsabelleError:
            pass  # the verdict is there; the next check says what is wrong

    def close(self) -> None:
        """Stops the session, where the server still answers."""
        if self._connection and self._session:
            try:
                self._task("session_stop", {"session_id": self._session}, self._grace_s)
            except IsabelleError:
                pass
        self._session = ""
        self._lose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ensure_session(self) -> None:
        if not self._connection:
            self._connect()
        if not self._session:
            started = self._task("session_start", self._wanted, START_S)
            self._session, self._tmp = (
                str(started.get("session_id", "")),
                Path(str(started.get("tmp_dir", ""))),
            )

    def _connect(self) -> None:
        """A short line with the password; the server says OK, or hangs up."""
        try:
            self._connection = socket.create_connection(self._place, self._connect_s)
        except OSError as error:
            raise IsabelleError(f"isabelle server {self.address}: no connection ({error})") from error
        self._buffer = b""
        try:
            self._send(self._password)
            name, _ = self._receive(time.monotonic() + self._connect_s)
        except IsabelleError as error:
            raise IsabelleError(f"{error}; is the password right?") from error
        if name != "OK":
            raise self._broken(f"says {name} to the password")

    # Messages

    def _immediate(self, command: str, argument: Mapping[str, Any]) -> dict[str, Any]:
        """The immediate result of a command; what comes of tasks before is passed over."""
        self._send(f"{command} {json.dumps(argument)}")
        deadline = time.monotonic() + self._connect_s
        while True:
            name, result = self._receive(deadline)
            if name == "OK":
                return result
            if name == "ERROR":
                raise self._refused(command, result)

    def _task(self, command: str, argument: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        """The final result of a command that takes its time."""
        task = self._immediate(command, argument).get("task")
        deadline = time.monotonic() + limit_s
        while True:
            name, result = self._receive(deadline)
            if result.get("task") == task and name == "FINISHED":
                return result
            if result.get("task") == task and name == "FAILED":
                raise self._refused(command, result)

    def _send(self, line: str) -> None:
        assert self._connection
        try:
            self._connection.settimeout(self._connect_s)
            self._connection.sendall(f"{line}\n".encode())
        except OSError as error:
            raise self._broken(f"is gone ({error})") from error

    def _receive(self, deadline: float) -> tuple[str, dict[str, Any]]:
        """The next message. An argument that is no object is as good as none."""
        line = self._until_newline(deadline)
        if line.isdigit():
            line = self._bytes(int(line), deadline)
        match = _MESSAGE.fullmatch(line.strip(b"\r\n"))
        if not match:
            raise self._broken(f"says what is no message: {line[:80]!r}")
        try:
            argument = json.loads(match[2]) if match[2] else {}
        except ValueError:
            raise self._broken(f"says {match[1].decode()} with what is no JSON: {match[2][:80]!r}") from None
        return match[1].decode(), argument if isinstance(argument, dict) else {}

    def _until_newline(self, deadline: float) -> bytes:
        """Passes over empty lines: a long message may end with one."""
        while True:
            while b"\n" not in self._buffer:
                self._more(deadline)
            line, _, self._buffer = self._buffer.partition(b"\n")
            if line := line.rstrip(b"\r"):
                return line

    def _bytes(self, count: int, deadline: float) -> bytes:
        if count > MOST_BYTES:
            raise self._broken(f"announces a message of {count} bytes")
        while len(self._buffer) < count:
            self._more(deadline)
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    def _more(self, deadline: float) -> None:
        assert self._connection
        try:
            self._connection.settimeout(max(deadline - time.monotonic(), 1e-3))
            new = self._connection.recv(1 << 16)
        except TimeoutError:
            raise self._broken("does not answer in time") from None
        except OSError as error:
            raise self._broken(f"is gone ({error})") from error
        if not new or len(self._buffer) > MOST_BYTES:
            raise self._broken("hangs up")
        self._buffer += new

    def _refused(self, command: str, result: Mapping[str, Any]) -> IsabelleError:
        reason = " ".join(str(result.get("message", "no reason given")).split())[:300]
        if reason.startswith("No session"):  # the server was started anew
            self._session = ""
        return IsabelleError(f"isabelle server {self.address}: {command}: {reason}")

    def _broken(self, what: str) -> IsabelleError:
        """Gives the connection up."""
        self._lose()
        return IsabelleError(f"isabelle server {self.address} {what}")

    def _lose(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None


def _checked(results: Mapping[str, Any], theories: Mapping[str, str]) -> dict[str, Checked]:
    """Of each theory; IsabelleError where the server says nothing of one."""
    found = {Path(str(node.get("node_name", ""))).stem: node for node in results.get("nodes", [])}
    if missing := next((name for name in theories if name not in found), None):
        errors = "; ".join(_texts(results.get("errors", []), "error"))
        raise IsabelleError(f"isabelle server: nothing of theory {missing} ({errors or 'no reason given'})")
    return {name: _node(found[name]) for name in theories}


def _node(node: Mapping[str, Any]) -> Checked:
    status, messages = node.get("status", {}), node.get("messages", [])
    errors = _texts(messages, "error")
    done = status.get("consolidated") and not status.get("canceled")
    ok = bool(status.get("ok") and done and not errors)
    return Checked(ok, _texts(messages, "writeln"), errors)


def _texts(messages: Sequence[Mapping[str, Any]], kind: str) -> tuple[str, ...]:
    return tuple(str(message.get("message", "")) for message in messages if message.get("kind") == kind)
