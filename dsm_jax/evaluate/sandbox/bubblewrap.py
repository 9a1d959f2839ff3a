"""The fallback around a server that may not make namespaces and has no Landlock: the program bwrap, which may.

Left out on purpose: bubblewrap around each program; the server in it forks as any other does.
"""

import os
import shutil
from pathlib import Path

import dsm_jax
from dsm_jax.evaluate.sandbox.settings import Settings


def is_installed() -> bool:
    return shutil.which("bwrap") is not None


def prefix(settings: Settings, python: str) -> list[str]:
    """The beginning of a command that runs the rest of it in bubblewrap, with the readable paths and the private folder."""
    package = os.path.realpath(Path(dsm_jax.__file__).parent)
    words = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
    for path in (*settings.readable, python, package):
        words += ["--ro-bind", path, path]
    for path in settings.devices:
        words += ["--dev-bind", path, path]
    return [*words, "--tmpfs", settings.tmp, "--remount-ro", "/", "--"]
