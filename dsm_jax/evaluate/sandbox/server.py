"""The fork server: a process of its own that confines itself, imports numpy and sympy, and forks a child for each program.

Started by client.py with a socket as its standard input. Runs one program at a time and never looks into what a program
writes. Left out on purpose: several programs at once; a client has several servers.
"""

import fcntl
import gc
import os
import signal
import site
import socket
import sys
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module

from dsm_jax.evaluate.sandbox import confinement, program
from dsm_jax.evaluate.sandbox.confinement import Confinement
from dsm_jax.evaluate.sandbox.frames import receive, send
from dsm_jax.evaluate.sandbox.limits import Limits
from dsm_jax.evaluate.sandbox.settings import Settings
from dsm_jax.evaluate.sandbox.watch import Ends, watch

# What many programs do first: sympy fills its caches, and imports what it puts off until then.
WARM_UP = """
import sympy
x, n = sympy.symbols("x"), sympy.symbols("n", integer=True)
sympy.solve(x**2 - 5*x + 6), sympy.solve([x + n - 3, x - n - 1], [x, n]), sympy.integrate(x*sympy.sin(x), x)
sympy.simplify(sympy.sin(x)**2 + sympy.cos(x)**2), sympy.expand((x + 1)**3), sympy.factor(x**2 - 1)
sympy.summation(n, (n, 1, 10)), sympy.limit(sympy.sin(x)/x, x, 0), sympy.diff(x**x), sympy.latex(x/2)
sympy.Matrix([[1, 2], [3, 4]]).inv(), sympy.Rational(1, 3) + sympy.sqrt(8), sympy.N(sympy.pi, 30), sympy.sympify("x+1")
"""


def main(settings: Settings) -> None:
    connection = socket.socket(fileno=os.dup(0))
    os.environ.clear()
    confined = confinement.enter(settings)
    sys.path[:] = settings.program_path
    _import_packages(settings.packages)
    send(connection, {"missing": confined.missing})
    code = _serve(connection, confined)
    if code is not None:
        program.run(code)
    os._exit(0)


def _import_packages(names: list[str]) -> None:
    site.setquit()
    site.sethelper()
    for name in names:
        import_module(name)
    exec(WARM_UP, {})  # noqa: S102  # the text above
    for name in [name for name in sys.modules if name.split(".")[0] == "dsm_jax"]:
        del sys.modules[name]  # nothing a program would import
    gc.collect()
    gc.freeze()  # children share these objects' memory as long as nobody touches them


def _serve(connection: socket.socket, confined: Confinement) -> str | None:
    """Serves until the client has gone (None); in a child it returns the child's program, so that the server's frames are gone."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    while request := receive(connection):
        limits = Limits(**request["limits"])
        folder = confined.private_folder()
        stdin, (out, their_out), (err, their_err) = _file_of(request["stdin"]), os.pipe(), os.pipe()
        report, their_report = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        token = os.urandom(program.TOKEN)
        report.send(token)
        child = os.fork()
        if child == 0:
            del token
            connection.detach()
            _take_files(stdin, their_out, their_err, their_report.detach())
            report.detach()
            confined.confine(limits, folder)
            os.closerange(program.REPORT + 1, 1 << 20)
            return request["code"]
        for file in (stdin, their_out, their_err, their_report.detach()):
            os.close(file)
        result = watch(child, Ends(out, err, report, token), limits, connection)
        confined.end_all()
        with suppress(BrokenPipeError):  # the client has gone
            send(connection, asdict(result))
    return None


def _take_files(*files: int) -> None:
    """They become 0, 1, 2 and so on."""
    for number, file in enumerate(files):
        os.dup2(file, number)


def _file_of(text: str) -> int:
    """A file in memory that can be read only."""
    file = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(file, "wb", closefd=False) as out:
        out.write(text.encode(errors="replace"))
    os.lseek(file, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
    return file
