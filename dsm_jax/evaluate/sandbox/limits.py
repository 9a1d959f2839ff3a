"""Limits of one program: time, memory, output, files, threads."""

import math
import resource
from dataclasses import dataclass

from dsm_jax.errors import UserError

FILES_MB = 64  # of the private folder, and of one file
MOST = 1_000_000_000
RESERVE_MB = 32  # more address space once memory ran out, to say so
OPEN_FILES, THREADS, SIGNALS = 64, 64, 256


@dataclass(frozen=True)
class Limits:
    """What a program may use. Raises UserError for impossible values."""

    timeout_s: float = 10.0  # wall-clock seconds
    memory_mb: int = 1024  # address space beyond that of the interpreter with numpy and sympy
    output_limit: int = 65_536  # bytes of stdout, and of stderr

    def __post_init__(self) -> None:
        for name in ("timeout_s", "memory_mb", "output_limit"):
            value = getattr(self, name)
            if not 0 < value < MOST:
                raise UserError(f"sandbox: {name} is {value}; it must be above 0 and below {MOST:,}")


USUAL = Limits()


def apply(limits: Limits, used_bytes: int, *, own_users: bool) -> None:
    """For this process, for good. used_bytes: its address space now. own_users: whether a user namespace counts its threads.

    CPU time is a second guard, should whoever watches the clock be gone.
    """
    space = used_bytes + (limits.memory_mb << 20)
    seconds = math.ceil(limits.timeout_s) + 1
    wanted = {
        resource.RLIMIT_AS: (space, space + (RESERVE_MB << 20)),
        resource.RLIMIT_CPU: (seconds, seconds + 1),
        resource.RLIMIT_FSIZE: (FILES_MB << 20,) * 2,
        resource.RLIMIT_NOFILE: (OPEN_FILES,) * 2,
        resource.RLIMIT_SIGPENDING: (SIGNALS,) * 2,
        resource.RLIMIT_CORE: (0, 0),
    }
    if own_users:  # otherwise all processes of the user would count
        wanted[resource.RLIMIT_NPROC] = (THREADS,) * 2
    for kind, (soft, hard) in wanted.items():
        _, most = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(kind, (soft, hard))


def use_reserve() -> None:
    """Lets a program whose memory ran out have the rest."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
