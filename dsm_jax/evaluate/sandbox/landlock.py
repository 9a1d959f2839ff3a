"""Landlock: which files a process may touch, enforced by Linux without any rights of the one who asks.

Everything is refused except reading below given paths, using given devices, and writing below one folder. Where the kernel's
version knows them, TCP, signals and abstract sockets beyond the process are refused too. Left out on purpose: what Landlock
does not govern (existence, sizes and dates of files elsewhere can be asked for; mounts.py hides those).
"""

import ctypes
import errno
import os
import stat
from collections.abc import Sequence

from dsm_jax.evaluate.sandbox.kernel import system_call

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # on both architectures

WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5
MAKE_DIR, MAKE_REG, REFER, TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
ACCESSES_OF_VERSION = (13, 14, 15, 15, 16)  # the first so many bits are known to version 1, 2, ...
READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | REFER | TRUNCATE
OF_FILES = WRITE_FILE | READ_FILE | TRUNCATE  # rules of a file, not a folder, may hold these


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]


def version() -> int:
    """Of the kernel's Landlock. Raises OSError where it has none, or where it is switched off."""
    ask_version = 1
    return system_call(CREATE_RULESET, None, 0, ask_version)


def restrict(readable: Sequence[str], devices: Sequence[str], writable: str) -> None:
    """For this process, for good. no_new_privs must be set. Paths that do not exist are left out. Raises OSError."""
    known = version()
    handled = (1 << ACCESSES_OF_VERSION[min(known, len(ACCESSES_OF_VERSION)) - 1]) - 1
    both = 0b11  # bind and connect of TCP; abstract sockets and signals
    wanted = _Ruleset(handled, both if known >= 4 else 0, both if known >= 6 else 0)
    size = 24 if known >= 6 else 16 if known >= 4 else 8  # what the version knows of the structure
    ruleset = system_call(CREATE_RULESET, wanted, size, 0)
    try:
        for paths, access in ((readable, READ), (devices, READ | WRITE_FILE), ([writable], WRITE)):
            for path in paths:
                _allow(ruleset, path, access & handled)
        system_call(RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    path_beneath = 1
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return
        raise
    try:
        is_folder = stat.S_ISDIR(os.fstat(place).st_mode)
        rule = _PathBeneath(access if is_folder else access & OF_FILES, place)
        system_call(ADD_RULE, ruleset, path_beneath, rule, 0)
    finally:
        os.close(place)
