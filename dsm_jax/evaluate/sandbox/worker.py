"""The client's side of one server: starts it, asks it, ends it."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict

from dsm_jax.errors import UserError
from dsm_jax.evaluate.sandbox import bubblewrap, installation
from dsm_jax.evaluate.sandbox.confinement import is_enough
from dsm_jax.evaluate.sandbox.folders import make_empty
from dsm_jax.evaluate.sandbox.frames import receive, send
from dsm_jax.evaluate.sandbox.limits import Limits
from dsm_jax.evaluate.sandbox.result import ExecutionResult
from dsm_jax.evaluate.sandbox.settings import Settings

START_S = 120  # seconds a server may take to import numpy and sympy, on a slow disk
GRACE_S = 10  # seconds beyond a program's own after which its server is given up
END_S = 5  # seconds a server may take to end
REMEDY = (
    "use Linux 5.13 or newer with Landlock, allow user namespaces (docs/sandbox.md), or install bubblewrap; "
    'isolation="none" runs programs that you trust'
)
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from dsm_jax.evaluate.sandbox import server, settings; "
    "server.main(settings.Settings(**json.loads(sys.argv[2])))"
)
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Worker:
    """A server that is running. missing: as in confinement.Confinement."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket, folder: str):
        self._process, self._connection, self._folder = process, connection, folder
        self.missing: dict[str, str] = {}

    def run(self, code: str, stdin: str, limits: Limits) -> ExecutionResult:
        """A result in any case; where the server ended or hangs, it is "killed" or "timeout" and this worker is dead."""
        status = "killed"
        try:
            self._connection.settimeout(limits.timeout_s + GRACE_S)
            send(self._connection, {"code": code, "stdin": stdin, "limits": asdict(limits)})
            if answer := receive(self._connection):
                return ExecutionResult(**answer)
        except TimeoutError:
            status = "timeout"
        except OSError:
            pass
        except BaseException:  # Ctrl-C: the answer to come is nobody's
            self.close()
            raise
        self.close()
        return ExecutionResult(status, "", "the sandbox's server ended with this program\n", None, 0.0, True)

    def wait_until_ready(self) -> bool:
        """Whether the server has started."""
        self._connection.settimeout(START_S)
        try:
            hello = receive(self._connection)
        except OSError:
            hello = None
        self.missing = hello["missing"] if hello else {}
        return bool(hello)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._connection.close()  # the server ends by itself
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            make_empty(self._folder)
            os.rmdir(self._folder)


def start(*, isolated: bool) -> Worker:
    """A server that is isolated well enough. Raises UserError where none can be."""
    worker = launch(isolated=isolated)
    if isolated and not is_enough(worker.missing):
        worker.close()
        worker = _in_bubblewrap(worker.missing)
    return worker


def _in_bubblewrap(missing: Mapping[str, str]) -> Worker:
    """missing: why there is none without it."""
    if not bubblewrap.is_installed():
        raise not_isolated(missing)
    try:
        worker = launch(with_bubblewrap=True)
    except UserError as error:
        raise not_isolated({**missing, "bubblewrap": str(error)}) from error
    if not is_enough(worker.missing):
        worker.close()
        raise not_isolated(worker.missing)
    return worker


def not_isolated(missing: Mapping[str, str]) -> UserError:
    said = "; ".join(f"{layer}: {why}" for layer, why in missing.items() if why)
    return UserError(f"this machine cannot isolate programs ({said}): {REMEDY}")


def require_linux() -> None:
    if not sys.platform.startswith("linux"):
        raise UserError("the sandbox needs Linux: run this in a container or a virtual machine")


def launch(*, isolated: bool = True, with_bubblewrap: bool = False) -> Worker:
    """A server with the layers that it found. Raises UserError where it does not start."""
    require_linux()
    folder = tempfile.mkdtemp(prefix="dsm-sandbox-")
    ours, theirs = socket.socketpair()
    with theirs, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            _command(folder, isolated, with_bubblewrap),
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=_environment(),
            cwd="/",
            start_new_session=True,
        )
        theirs.close()
        worker = Worker(process, ours, folder)
        if not worker.wait_until_ready():
            worker.close()
            log.seek(0)
            last = log.read().decode(errors="replace").strip().rpartition("\n")[2] or "it said nothing"
            raise UserError(f"the sandbox's server did not start ({last}): see docs/sandbox.md")
    return worker


def _command(folder: str, isolated: bool, with_bubblewrap: bool) -> list[str]:
    settings = Settings(
        tmp=folder,
        readable=installation.readable(),
        devices=[path for path in installation.DEVICES if os.path.exists(path)],
        program_path=installation.program_path(),
        packages=list(installation.IMPORTED),
        isolated=isolated,
        bubblewrap=with_bubblewrap,
    )
    python = os.path.realpath(sys.executable)
    arguments = [json.dumps(installation.import_path()), json.dumps(asdict(settings))]
    before = bubblewrap.prefix(settings, python) if with_bubblewrap else []
    return [*before, python, "-sSP", "-X", "utf8", "-c", BOOT, *arguments]


def _environment() -> dict[str, str]:
    """Of the server; that of programs is empty."""
    libraries = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PYTHONHASHSEED": "0"} | ONE_THREAD | libraries
