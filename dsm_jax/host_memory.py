"""Host memory for arrays on CPUs: kept by the process, in huge pages.

XLA takes a step's temporaries from malloc and gives them back after each step; glibc returns blocks of that size to the
kernel, which clears their pages anew every time: 5 to 10% of a training step. Left out on purpose: other C libraries,
and hosts with an accelerator, whose arrays are not here.
"""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

# Parameters of mallopt, from glibc's malloc.h.
TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8
MADV_HUGEPAGE = 14
HUGE_PAGE = 2 << 20
GROWTH = 1 << 30  # bytes of address space by which the heap grows; pages are taken when they are written
ACCELERATORS = ("nvidia0", "accel0", "kfd", "vfio/0")


def keep_host_memory(dev: Path = Path("/dev")) -> bool:
    """Sets the process's malloc up for arrays on the CPU; whether it did. Call it before jax makes its devices: each of
    its threads takes its own heap at its first malloc. GLIBC_TUNABLES in the environment are the user's, and stay."""
    chosen = os.environ.get("JAX_PLATFORMS", "")
    on_cpu = chosen == "cpu" or not (chosen or any((dev / name).exists() for name in ACCELERATORS))
    if not on_cpu or platform.libc_ver()[0] != "glibc" or os.environ.get("GLIBC_TUNABLES"):
        return False
    libc = ctypes.CDLL(None)
    for option, value in ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, GROWTH)):
        libc.mallopt(option, value)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.free(libc.malloc(GROWTH))  # the heap grows once now, so that its pages can be told to be huge
    start, end = _heap()
    start, end = -(-start // HUGE_PAGE) * HUGE_PAGE, end // HUGE_PAGE * HUGE_PAGE
    libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_HUGEPAGE)
    return True


def _heap() -> tuple[int, int]:
    """First and last address of the heap."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("[heap]"):
            first, last = line.split()[0].split("-")
            return int(first, 16), int(last, 16)
    return 0, 0
