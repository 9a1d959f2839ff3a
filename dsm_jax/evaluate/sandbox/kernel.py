"""System calls that Python has no function for, through ctypes. Every failure is an OSError."""

import ctypes
import os

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38

_libc = ctypes.CDLL(None, use_errno=True)


def system_call(number: int, *arguments: int | bytes | ctypes.Array | ctypes.Structure | None) -> int:
    """What the call returns. Structures and arrays are passed by reference, None as a null pointer."""
    return _checked(_libc.syscall(ctypes.c_long(number), *map(_word, arguments)))


def prctl(option: int, *arguments: int | ctypes.Structure) -> None:
    words = [*map(_word, arguments), *[ctypes.c_ulong(0)] * 4][:4]
    _checked(_libc.prctl(option, *words))


def unshare(flags: int) -> None:
    _checked(_libc.unshare(flags))


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    names = [None if name is None else os.fsencode(name) for name in (source, target, kind)]
    _checked(_libc.mount(*names, ctypes.c_ulong(flags), os.fsencode(options)))


def unmount(target: str) -> None:
    """Detaches what is mounted there, whether it is in use or not."""
    mnt_detach = 2
    _checked(_libc.umount2(os.fsencode(target), mnt_detach))


def drop_capabilities() -> None:
    """Gives up all rights of root, or of a user namespace's owner, for good where nothing can be executed."""
    version_3 = 0x20080522
    header, none = (ctypes.c_uint32 * 2)(version_3, 0), (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(header, none))


def _word(value: int | bytes | ctypes.Array | ctypes.Structure | None) -> object:
    if isinstance(value, int):
        return ctypes.c_long(value)
    if isinstance(value, ctypes.Array | ctypes.Structure):
        return ctypes.byref(value)
    return value


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
