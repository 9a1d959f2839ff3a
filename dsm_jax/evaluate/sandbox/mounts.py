"""A root of its own: a small file system in memory that shows the readable paths, read-only, and a private folder.

Left out on purpose: /proc, /sys, /dev/shm and everything else a computation does not need.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from dsm_jax.evaluate.sandbox.kernel import mount, system_call, unmount

OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442  # on both architectures
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE, OPEN_TREE_CLONE, MOVE_FROM_OPEN = -100, 0x1000, 0x8000, 1, 4
NOSUID, NODEV, NOEXEC, REC, PRIVATE = 0x2, 0x4, 0x8, 0x4000, 0x40000
READ_ONLY_AND_NOSUID = (0x3).to_bytes(8, "little") + bytes(24)  # struct mount_attr


def private_place(shown: Sequence[str]) -> str:
    """Where programs find their private files: /tmp, or, where a shown path lies in it, /var/tmp."""
    return "/var/tmp" if any(path.startswith("/tmp/") for path in shown) else "/tmp"


def own_root(shown: Sequence[str], over: str) -> None:
    """The mount namespace's root becomes one that has the shown paths only. over: any folder. Raises OSError."""
    mount(None, "/", None, REC | PRIVATE)
    flags = OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC
    trees = {path: system_call(OPEN_TREE, AT_FDCWD, os.fsencode(path), flags) for path in shown}
    mount("tmpfs", over, "tmpfs", NOSUID | NODEV, "size=1m,mode=0755")
    for path, tree in trees.items():
        _show(tree, Path(f"{over}{path}"), is_folder=os.path.isdir(path))
    Path(f"{over}{private_place(shown)}").mkdir(parents=True, exist_ok=True)
    os.chdir(over)
    system_call(PIVOT_ROOT[os.uname().machine], b".", b".")
    unmount(".")
    os.chdir("/")
    system_call(MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, READ_ONLY_AND_NOSUID, len(READ_ONLY_AND_NOSUID))


def _show(tree: int, target: Path, *, is_folder: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.mkdir() if is_folder else target.touch()
    system_call(MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(target), MOVE_FROM_OPEN)
    os.close(tree)


def mount_empty(folder: str, size_mb: int) -> None:
    """The folder becomes an empty one of limited size; what this put there before is gone with all its files."""
    if os.path.ismount(folder):
        unmount(folder)
    mount("tmpfs", folder, "tmpfs", NOSUID | NODEV | NOEXEC, f"size={size_mb}m,nr_inodes=4k,mode=0700")
