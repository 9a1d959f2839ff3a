"""What a program in the sandbox may read: the Python installation, its packages and the system's libraries; nothing else."""

import os
import sys
import sysconfig
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("numpy", "sympy", "mpmath")
IMPORTED = (
    *PACKAGES,
    "numpy.random",
    "fractions",
    "decimal",
    "statistics",
    "datetime",
)  # before the first program
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
SYSTEM = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/localtime",
)


def import_path() -> list[str]:
    """This process's own, links resolved: where the server finds this package, an editable one too, and those of programs."""
    own = Path(__file__).resolve().parents[3]
    return _existing([str(own), *(os.path.realpath(entry or os.curdir) for entry in sys.path)])


def program_path() -> list[str]:
    """Where programs import from: the standard library and the folders that hold PACKAGES; not this project."""
    origins = [spec.origin for name in PACKAGES if (spec := find_spec(name)) and spec.origin]
    standard = sysconfig.get_path("stdlib")
    folders = [standard, f"{standard}/lib-dynload", *(str(Path(origin).parents[1]) for origin in origins)]
    return _existing(os.path.realpath(folder) for folder in folders)


def readable() -> list[str]:
    """Folders and files, none of them inside another one; links as they are spelled and as they are resolved."""
    paths = {*program_path(), *SYSTEM, f"{sys.base_prefix}/lib", sysconfig.get_path("stdlib")}
    existing = sorted(_existing(paths | {os.path.realpath(path) for path in paths}))
    return [path for path in existing if not any(path.startswith(f"{other}/") for other in existing)]


def _existing(paths: Iterable[str]) -> list[str]:
    return [path for path in dict.fromkeys(paths) if os.path.exists(path)]
