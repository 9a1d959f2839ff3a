"""Runs a program's text in this process as `python FILE` would, and says at its end how it ended.

Tracebacks show the program's own frames, of the file "<program>". Every run starts from the same seeds. Left out on purpose: any
protection; whoever calls this has confined the process before.
"""

import atexit
import io
import linecache
import os
import random
import sys
import threading
from contextlib import suppress
from traceback import TracebackException as _Shown
from types import ModuleType

from dsm_jax.evaluate.sandbox.limits import use_reserve

FILE = "<program>"
TRACEBACK = 4_000  # characters of one, the last ones
REPORT = 3  # file descriptor of the report: a token is read from it, and written back with the outcome
TOKEN = 16  # bytes
OUTCOMES = {b"o": "ok", b"e": "error", b"m": "memory", b"x": "exited"}

# A program may replace what these names stand for.
_read, _write, _exit, _settrace, _setprofile = os.read, os.write, os._exit, sys.settrace, sys.setprofile


def run(code: str) -> None:
    """Runs the program, reports its outcome and ends the process."""
    outcome, exit_code = b"e", 1
    try:
        module = _fresh_interpreter(code)
        exec(compile(code, FILE, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # the sandbox's purpose
        _settrace(None)
        _setprofile(None)
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter does
        outcome, exit_code = b"o", 0
    except SystemExit as stop:
        outcome, exit_code = b"x", _exit_code(stop)
    except MemoryError as error:
        use_reserve()
        outcome = b"m"
        _say(error)
    except BaseException as error:  # noqa: BLE001
        _say(error)
    try:
        _settrace(None)
        _setprofile(None)
        atexit._run_exitfuncs()
        _flush()
    except BaseException as error:  # noqa: BLE001
        outcome, exit_code = b"e", 1
        _say(error)
    _report(outcome)
    _exit(exit_code)


def _report(outcome: bytes) -> None:
    with suppress(OSError):  # the program closed it: it does not count as ended
        _write(REPORT, _read(REPORT, TOKEN) + outcome)


def _fresh_interpreter(code: str) -> ModuleType:
    """Streams and seeds; returns the program's __main__."""
    sys.stdin = sys.__stdin__ = _stream(0, "rb")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(1, "wb")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, "wb")  # type: ignore[misc]
    sys.argv = [FILE]
    random.seed(0)
    sys.modules["numpy"].random.seed(0)
    linecache.cache[FILE] = (len(code), None, code.splitlines(keepends=True), FILE)
    module = sys.modules["__main__"] = ModuleType("__main__")
    return module


def _stream(number: int, mode: str) -> io.TextIOWrapper:
    binary = open(number, mode, closefd=False)  # noqa: SIM115  # as long as the program
    return io.TextIOWrapper(binary, "utf-8", "replace", line_buffering=True)


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None or isinstance(stop.code, int):
        return (stop.code or 0) & 0xFF
    _write(2, f"{stop.code}\n"[-TRACEBACK:].encode(errors="replace"))
    return 1


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None and not stream.closed:
            stream.flush()


def _say(error: BaseException) -> None:
    """Writes the traceback, cut to whole lines at its end."""
    with suppress(BaseException):  # a stream of the program's making
        _flush()
    try:
        text = _text(error)
    except BaseException:  # noqa: BLE001  # of an exception that cannot be shown
        text = f"{type(error).__name__}\n"
    data = text.encode(errors="replace")
    with suppress(OSError):  # closed
        while data:
            data = data[_write(2, data) :]


def _text(error: BaseException) -> str:
    shown = _Shown(type(error), error, error.__traceback__, compact=True)
    todo: list[_Shown | None] = [shown]
    while todo:
        if one := todo.pop():
            one.stack[:] = [frame for frame in one.stack if frame.filename == FILE]
            todo += [one.__cause__, one.__context__, *(one.exceptions or [])]
    text = "".join(shown.format())
    if len(text) <= TRACEBACK:
        return text
    whole_lines = text[-TRACEBACK:].partition("\n")[2]
    return f"...\n{whole_lines or text[-TRACEBACK:]}"
