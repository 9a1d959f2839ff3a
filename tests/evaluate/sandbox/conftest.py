"""Sessions: a process each that runs programs as somebody; session.py says who there is."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dsm_jax.evaluate.sandbox import ExecutionResult, probe

PROJECT = Path(__file__).parents[3]


class Session:
    """A process that runs programs in a sandbox of one server."""

    def __init__(self, name: str, process: subprocess.Popen[str]):
        self.name, self.process = name, process
        self.who = json.loads(process.stdout.readline())

    def ask(
        self, code: str, *, stdin: str = "", isolation: str = "required", **limits: float
    ) -> dict[str, Any]:
        request = {"code": code, "stdin": stdin, "limits": limits, "isolation": isolation}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the session ended, {self.process.wait(5)}"
        return json.loads(answer)

    def run(self, code: str, **options: Any) -> ExecutionResult:
        return ExecutionResult(**self.ask(code, **options))


@cache
def require_isolation() -> None:
    if not probe().isolated:
        pytest.skip(f"this machine isolates no programs: {probe()}")


@contextmanager
def session(who: str) -> Iterator[Session]:
    """who: as in session.py."""
    require_isolation()
    if who == "root" and os.geteuid() != 0:
        pytest.skip("the tests do not run as root")
    if who == "bubblewrap" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    command = [sys.executable, str(Path(__file__).parent / "session.py"), who]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield Session(who, process)
    finally:
        process.stdin.close()
        assert process.wait(20) == 0


@pytest.fixture(scope="session")
def somebody(request: pytest.FixtureRequest) -> Iterator[Session]:
    """request.param: who it is."""
    with session(request.param) as running:
        yield running


@pytest.fixture(scope="session")
def outside() -> Iterator[SimpleNamespace]:
    """What programs must not reach: a secret's folder, sockets that listen. Everybody may, outside the sandbox."""
    with tempfile.TemporaryDirectory() as name, socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "secret").write_text("secret")
        (folder / "secret").chmod(0o666)
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        unix.bind(f"{folder}/socket")
        unix.listen()
        (folder / "socket").chmod(0o777)
        abstract = socket.socket(socket.AF_UNIX)
        with abstract:
            abstract.bind(f"\0dsm-{os.getpid()}")
            abstract.listen()
            yield SimpleNamespace(folder=name, port=tcp.getsockname()[1], abstract=f"dsm-{os.getpid()}")
