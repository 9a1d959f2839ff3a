"""Namespaces: a process that has no network, sees no other process, and no files but the shown ones.

Entered once by a server, not by each program: a server runs one program at a time and takes the namespaces with it. As root
it first becomes "nobody", so that what holds for an ordinary user holds for root. Left out on purpose: control groups, which
an ordinary user rarely may set.
"""

import os
import signal
from collections.abc import Callable, Sequence
from functools import partial

from dsm_jax.evaluate.sandbox.kernel import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, prctl, unshare
from dsm_jax.evaluate.sandbox.mounts import own_root

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x20000,
    0x4000000,
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
NOBODY = 65534


def enter(proc: int, shown: Sequence[str], over: str) -> dict[str, str]:
    """Enters what it can and returns, as the first process of a process namespace, layer -> why it is missing ("": it is not).

    proc: /proc, opened. shown, over: as in mounts.own_root. The calling process waits for the returned one and ends as it
    does; it must have one thread.
    """
    missing: dict[str, str] = {}
    if os.geteuid() == 0 and not why_not(lambda: unshare(NEWNS)):
        missing["files"] = why_not(lambda: own_root(shown, over))
        if not missing["files"]:
            _become_nobody()
    missing["user"] = why_not(lambda: _own_users(proc))
    for layer, flag in (("network", NEWNET), ("ipc", NEWIPC), ("host name", NEWUTS), ("processes", NEWPID)):
        missing[layer] = why_not(partial(unshare, flag))
    missing["mounts"] = why_not(lambda: unshare(NEWNS))
    if "files" not in missing:
        missing["files"] = missing["mounts"] or why_not(lambda: own_root(shown, over))
    if not missing["processes"]:
        _go_on_as_first_process()
    return missing


def why_not(step: Callable[[], None]) -> str:
    """The error of a step that fails, "" where it does not."""
    try:
        step()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    prctl(PR_SET_DUMPABLE, 1)  # else /proc/self stays root's, and _own_users cannot write there


def _own_users(proc: int) -> None:
    """A user namespace in which this user is "nobody", with all rights over the namespaces made next."""
    user, group = os.geteuid(), os.getegid()
    unshare(NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{NOBODY} {user} 1"),
        ("gid_map", f"{NOBODY} {group} 1"),
    ):
        file = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        os.write(file, text.encode())
        os.close(file)


def _go_on_as_first_process() -> None:
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
