"""The layers around a program: which the server enters, which each child puts on, which are missing, and what is enough.

A server that lacks a layer says so and works with the others; whether they are enough the client decides (is_enough). Left out
on purpose: a way to loosen single layers.
"""

import json
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from dsm_jax.evaluate.sandbox import landlock, limits, mounts, namespaces, seccomp
from dsm_jax.evaluate.sandbox.folders import make_empty
from dsm_jax.evaluate.sandbox.kernel import PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG, drop_capabilities, prctl
from dsm_jax.evaluate.sandbox.limits import FILES_MB, Limits
from dsm_jax.evaluate.sandbox.settings import Settings

LAYERS = {
    "user": "programs run as nobody, without rights",
    "files": "other files do not exist: a root of its own, read-only, with a private folder",
    "mounts": "mounts change for the sandbox only",
    "processes": "other processes do not exist",
    "network": "there is no network",
    "ipc": "no shared memory or queues with others",
    "host name": "the host's name is the sandbox's",
    "landlock": "other files may not be read or written",
    "seccomp": "no other processes, sockets, mounts, tracing; signals to the program itself only",
    "rights": "no capabilities, and none to be gained",
    "limits": "memory, processor time, files, threads",
}
UNKNOWN_MB = 512  # address space of a server in bubblewrap, which shows it no /proc
OF_NAMESPACES = ("user", "files", "mounts", "processes", "network", "ipc", "host name")


def is_enough(missing: Mapping[str, str]) -> bool:
    """Whether what is there contains a hostile program: seccomp, no rights, limits, and one of the two layers around files.

    With seccomp a program is one process without sockets that signals nobody, so process and network namespaces are second
    walls; files need one of their own, since names of files are nothing seccomp sees.
    """
    return not (missing["seccomp"] or missing["rights"] or missing["limits"]) and not (
        missing["files"] and missing["landlock"]
    )


@dataclass(frozen=True)
class Confinement:
    """missing: layer -> why it is missing, "" where it is there. statm: this process's memory, an open file, if there is one."""

    settings: Settings
    missing: dict[str, str]
    statm: int | None

    def private_folder(self) -> str:
        """An empty folder for the next program, whose working folder it becomes."""
        if self.settings.bubblewrap or self.missing["files"]:
            make_empty(self.settings.tmp)
            return self.settings.tmp
        folder = mounts.private_place(self.settings.readable)
        mounts.mount_empty(folder, FILES_MB)
        return folder

    def confine(self, limits: Limits, folder: str) -> None:
        """All layers of a child, for good; what fails here and did not at the start is an OSError."""
        os.setsid()
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.umask(0o077)
        os.chdir(folder)
        for layer, put_on in self._of_a_child(limits, folder).items():
            if not self.missing[layer]:
                put_on()

    def end_all(self) -> None:
        """Ends whatever lives in the sandbox besides this server."""
        if self.missing["processes"] or self.settings.bubblewrap:
            return
        try:
            os.kill(-1, signal.SIGKILL)  # as the first process of its namespace
            while os.waitpid(-1, 0):
                pass
        except (ProcessLookupError, ChildProcessError):
            pass

    def _of_a_child(self, wanted: Limits, folder: str) -> dict[str, Callable[[], None]]:
        used = UNKNOWN_MB << 20 if self.statm is None else _address_space(self.statm)
        readable, devices = self.settings.readable, self.settings.devices
        return {
            "limits": lambda: limits.apply(wanted, used, own_users=not self.missing["user"]),
            "rights": _give_up_rights,
            "landlock": lambda: landlock.restrict(readable, devices, folder),
            "seccomp": lambda: seccomp.install(os.getpid()),
        }

    def _tried(self) -> dict[str, str]:
        """Which of a child's layers are missing: a child tries them all."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            found = {}
            for layer, put_on in self._of_a_child(Limits(), self.private_folder()).items():
                found[layer] = namespaces.why_not(put_on)
            os.write(write, json.dumps(found).encode())
            os._exit(0)
        os.close(write)
        with open(read, "rb") as answer:
            tried = answer.read()
        os.waitpid(child, 0)
        return json.loads(tried)


def enter(settings: Settings) -> Confinement:
    """Enters the namespaces, where it may, and tries the rest. Returns in another process than it was called in."""
    missing, statm = dict.fromkeys(LAYERS, "not wanted"), None
    if settings.bubblewrap:
        missing |= dict.fromkeys(OF_NAMESPACES, "")
    else:
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        _be_the_first_to_go(proc)
        if settings.isolated:
            missing |= namespaces.enter(proc, [*settings.readable, *settings.devices], settings.tmp)
        statm = os.open("self/statm", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
        os.close(proc)
    bare = Confinement(settings, missing, statm)
    tried = bare._tried()
    if not settings.isolated:
        tried |= dict.fromkeys(("landlock", "seccomp"), "not wanted")
    return replace(bare, missing=missing | tried)


def _be_the_first_to_go(proc: int) -> None:
    """When the kernel runs out of memory, it ends sandboxes before whoever uses them."""
    with suppress(OSError), open(os.open("self/oom_score_adj", os.O_WRONLY, dir_fd=proc), "w") as score:
        score.write("1000")


def _address_space(statm: int) -> int:
    return int(os.pread(statm, 64, 0).split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _give_up_rights() -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    drop_capabilities()
