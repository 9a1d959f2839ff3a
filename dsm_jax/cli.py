"""The command line of every script: presets, options from a frozen dataclass, one-line errors, exit codes.

Leaves out on purpose: configuration files (a run directory's config.json records, and is not read as input) and
sub-commands. Does not import jax.
"""

import contextlib
import difflib
import errno
import io
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar, get_args

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from dsm_jax.errors import Preempted, UserError
from dsm_jax.host_memory import keep_host_memory
from dsm_jax.run import ENDING, handling_sigterm

Config = TypeVar("Config")

PYTHONS = ((3, 11), (3, 12))
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, a quota, ulimit -f


def run_script(
    main: Callable[[Config], Any], presets: Mapping[str, Config], argv: Sequence[str] | None = None
) -> None:
    """Calls main(config), config being a preset (the first by default) with the command line's changes.

    presets: name -> instance of one frozen dataclass with a field `preset` that holds the name.
    Exits 2 for a user's mistake (one line on stderr), 75 after SIGTERM (everything is saved: start it again),
    130 after Ctrl-C; returns where main returns.
    """
    ENDING.clear()
    try:
        with handling_sigterm(_preempt), _answering_again():
            _check_python()
            _use_compilation_cache()
            _use_device_memory()
            keep_host_memory()
            main(parse(presets, sys.argv[1:] if argv is None else argv, description=_docstring(main)))
    except (Exception, Preempted, KeyboardInterrupt) as error:
        code, line = _ending(error)
        if "dsm_jax.ending" in sys.modules:  # several processes end together
            sys.modules["dsm_jax.ending"].leave(code, line)
        if code == 1:
            raise
        print(line, file=sys.stderr)
        sys.exit(code)


def refuse_options(config: Any, preset: Any, names: Sequence[str]) -> None:
    """UserError where one of these, dotted names of fields, is not the preset's: the script sets them itself."""
    for name in names:
        if attrgetter(name)(config) != attrgetter(name)(preset):
            option = f"--{name}".replace("_", "-")
            raise UserError(f"{option}: this script sets that itself; leave it out")


def _ending(error: BaseException) -> tuple[int, str]:
    """Exit code and last words of a run that this has ended; 1: a mistake of ours, and its traceback."""
    if isinstance(error, UserError):
        return error.exit_code, "error: " + " ".join(str(error).split())
    if isinstance(error, OSError) and (error.filename is not None or error.errno in FULL):
        return UserError.exit_code, f"error: {error.filename or 'disk'}: {error.strerror}"
    if isinstance(error, Preempted):
        return error.exit_code, "stopped by SIGTERM; the same command goes on from here"
    if isinstance(error, KeyboardInterrupt):
        return 130, "stopped; the same command goes on from here"
    return 1, "".join(traceback.format_exception(error)).rstrip()


def parse(presets: Mapping[str, Config], argv: Sequence[str], description: str = "") -> Config:
    """The configuration that `argv` asks for. Raises UserError; --help prints and exits 0."""
    name = _preset_name(argv, default=next(iter(presets)))
    if name not in presets:
        raise UserError(
            f"--preset {name}: unknown{_hint(name, presets)}; the presets are {', '.join(presets)}"
        )
    config = presets[name]
    help_text = f"{description}\n\nPresets: {', '.join(presets)}. Defaults below are those of {name}.".strip()
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                type(config), default=config, args=list(argv), description=help_text, registry=_REGISTRY
            )
    except SystemExit as end:
        if end.code in (None, 0):
            raise
        raise UserError(_one_line(complaint.getvalue())) from None


_REGISTRY = ConstructorRegistry()


@_REGISTRY.primitive_rule
def _of_whole_numbers(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """int and tuple[int, ...] as tyro has them, but with 40e9, and saying what a whole number looks like."""
    if info.type is int:
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT",
            instance_from_str=lambda words: _whole_number(words[0]),
            is_instance=lambda value: type(value) is int,
            str_from_instance=lambda value: [str(value)],
        )
    if get_args(info.type) == (int, ...):
        return PrimitiveConstructorSpec(
            nargs="*",
            metavar="[INT [INT ...]]",
            instance_from_str=lambda words: tuple(map(_whole_number, words)),
            is_instance=lambda value: isinstance(value, tuple) and all(type(one) is int for one in value),
            str_from_instance=lambda value: list(map(str, value)),
        )
    return None


def _whole_number(text: str) -> int:
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(ValueError):
        if (value := float(text)).is_integer():
            return int(value)
    raise ValueError(f"{text!r} is no whole number such as 40000000000 or 40e9")


def _preset_name(argv: Sequence[str], default: str) -> str:
    """The last --preset of the command line: it has to be known before the other options have defaults."""
    name = default
    for i, word in enumerate(argv):
        if word == "--preset" and i + 1 < len(argv):
            name = argv[i + 1]
        elif word.startswith("--preset="):
            name = word.removeprefix("--preset=")
    return name


def _hint(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _one_line(box: str) -> str:
    """tyro's box (a title, then blocks between rules) as one line: the first block, and the nearest option."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", box)
    lines = [line.strip("│ ") for line in plain.splitlines()[1:]]
    message, *more = re.split(r"\n[─-]{3,}\n", "\n".join(lines))
    meant = re.search(r"Perhaps you meant:\s+(--\S+)", "\n".join(more))
    hint = f" (did you mean {meant[1]}?)" if meant else ""
    return " ".join(message.split()).rstrip(".") + hint + "; --help lists the options"


def _docstring(main: Callable[..., Any]) -> str:
    """The script's own docstring: its first paragraph says what --help needs."""
    module_doc = sys.modules[main.__module__].__doc__ or ""
    return " ".join((main.__doc__ or module_doc).strip().split("\n\n")[0].split())


def _check_python() -> None:
    if sys.version_info[:2] not in PYTHONS:
        found = ".".join(map(str, sys.version_info[:2]))
        raise UserError(
            f"Python {found} is not supported: use 3.11 or 3.12 (make demo finds one and creates .venv)"
        )


def _use_compilation_cache() -> None:
    """Keeps XLA's compilations between runs. The environment wins; a jax imported already hears of it too."""
    settings = {
        "JAX_COMPILATION_CACHE_DIR": str(Path("~/.cache/dsm_jax/xla").expanduser()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    missing = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(missing)
    if "jax" in sys.modules:
        for name, value in missing.items():
            sys.modules["jax"].config.update(name.lower(), value if name.endswith("DIR") else int(value))


def _use_device_memory() -> None:
    """Lets jax take 95% of a GPU's memory, not three quarters; the environment wins (of its two names one may be set)."""
    if "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:
        os.environ.setdefault("XLA_CLIENT_MEM_FRACTION", "0.95")


def _preempt(signum: int, frame: object) -> None:
    if not ENDING.is_set():  # else it is on its way, and should save what it is about to
        raise Preempted("SIGTERM")


@contextlib.contextmanager
def _answering_again() -> Iterator[None]:
    """Sends a signal again where it came during a destructor or a garbage collection: no exception comes out of those."""
    usual = sys.unraisablehook

    def again(lost: Any) -> None:
        if isinstance(lost.exc_value, Preempted | KeyboardInterrupt):
            number = signal.SIGTERM if isinstance(lost.exc_value, Preempted) else signal.SIGINT
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        else:
            usual(lost)

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = usual
