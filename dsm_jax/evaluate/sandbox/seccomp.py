"""The filter of system calls: those of system_calls.py may be made, some only with harmless arguments; none else.

A program is one process with threads. Refused calls fail with EPERM, those newer than this file with ENOSYS, which tells the C
library to use an older one. Left out on purpose: a filter by file name, which seccomp cannot see (landlock.py, mounts.py).
"""

import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct
import termios
from dataclasses import dataclass

from dsm_jax.evaluate.sandbox.kernel import PR_SET_SECCOMP, prctl
from dsm_jax.evaluate.sandbox.system_calls import PLAIN, RULED, numbers

AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSE, UNKNOWN = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
FIRST_OF_BOTH = (
    424  # from here on both architectures have the same numbers; C libraries try these calls first
)

LOAD, AND, EQUAL, AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
NUMBER, ARCHITECTURE = 0, 4  # where these lie in struct seccomp_data

CLONE_VM, CLONE_THREAD = 0x100, 0x10000
CLONE_NAMESPACES = 0x7E020000
F_DUPFD_CLOEXEC, F_GETPIPE_SZ = 1030, 1032


@dataclass(frozen=True)
class Word:
    """Holds where 32 bits of an argument, masked, have the value; argument: 0 to 5; half 1: the upper 32 bits."""

    argument: int
    value: int
    mask: int = 0xFFFFFFFF
    half: int = 0


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def rules(own_process: int) -> dict[str, list[list[Word]]]:
    """Call -> alternatives, one of which must hold with all its words.

    Signals go to the own process only; files are not emptied by opening them to read (older Landlocks allow that); an open file
    does not signal another process (F_SETOWN); what socketpair gives is connected to itself and to nothing else (asyncio needs it).
    """
    commands = (
        fcntl.F_DUPFD, fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL,
        fcntl.F_GETLK, fcntl.F_SETLK, fcntl.F_SETLKW, F_DUPFD_CLOEXEC, F_GETPIPE_SZ,
    )  # fmt: skip
    controls = (
        termios.TCGETS, termios.TIOCGWINSZ, termios.FIONREAD, termios.FIONBIO, termios.FIOCLEX, termios.FIONCLEX,
    )  # fmt: skip
    thread = CLONE_VM | CLONE_THREAD
    return {
        "clone": [[Word(0, thread, mask=thread | CLONE_NAMESPACES)]],
        "open": _opened(1),
        "openat": _opened(2),
        "kill": [[Word(0, own_process)]],
        "tgkill": [[Word(0, own_process)]],
        "prlimit64": [[Word(0, 0)], [Word(0, own_process)]],
        "socketpair": [[Word(0, socket.AF_UNIX)]],
        "sendto": [[Word(4, 0), Word(4, 0, half=1)]],  # no address
        "fcntl": [[Word(1, command)] for command in commands],
        "ioctl": [[Word(1, control)] for control in controls],
    }


def _opened(flags: int) -> list[list[Word]]:
    kept = Word(flags, 0, mask=os.O_TRUNC)
    return [
        [kept],
        [Word(flags, os.O_WRONLY, mask=os.O_ACCMODE)],
        [Word(flags, os.O_RDWR, mask=os.O_ACCMODE)],
    ]


def compile_filter(own_process: int, machine: str) -> bytes:
    """The filter as a BPF program. Linear, but Linux remembers what is allowed whatever the arguments."""
    code = [
        _step(LOAD, ARCHITECTURE), _step(EQUAL, AUDIT_ARCHITECTURE[machine], 1, 0), _step(RETURN, KILL),
        _step(LOAD, NUMBER),
    ]  # fmt: skip
    for number in numbers(PLAIN, machine).values():
        code += [_step(EQUAL, number, 0, 1), _step(RETURN, ALLOW)]
    ruled = numbers(RULED, machine)
    for name, alternatives in rules(own_process).items():
        if name in ruled:
            body = [step for words in alternatives for step in _all_of(words)] + [_step(RETURN, REFUSE)]
            code += [_step(EQUAL, ruled[name], 0, len(body)), *body]
    code += [_step(EQUAL, ruled["clone3"], 0, 1), _step(RETURN, UNKNOWN)]
    code += [_step(AT_LEAST, FIRST_OF_BOTH, 0, 1), _step(RETURN, UNKNOWN), _step(RETURN, REFUSE)]
    return b"".join(code)


def install(own_process: int) -> None:
    """For this process and its threads, for good. no_new_privs must be set. Raises OSError."""
    machine = platform.machine()
    if machine not in AUDIT_ARCHITECTURE:
        raise OSError(errno.ENOSYS, f"no numbers of system calls for {machine}")
    code = compile_filter(own_process, machine)
    mode_filter = 2
    prctl(PR_SET_SECCOMP, mode_filter, _Program(len(code) // 8, code))


def _all_of(words: list[Word]) -> list[bytes]:
    """Allows where all words hold, else goes on with the next step."""
    steps: list[bytes] = [_step(RETURN, ALLOW)]
    for word in reversed(words):
        place = 16 + 8 * word.argument + 4 * word.half
        steps = [
            _step(LOAD, place), _step(AND, word.mask), _step(EQUAL, word.value, 0, len(steps)), *steps,
        ]  # fmt: skip
    return steps


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
