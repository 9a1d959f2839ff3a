"""Scripts killed and started again, by experiments/drill.py."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.processes import environment

ROOT = Path(__file__).parents[2]


def kill_twice(folder: Path, command: Sequence[str | Path], *, compare: Sequence[str], writes: str) -> None:
    """Two runs of a script, each killed once, one of them inside a write of `writes`, end in the files of a third.

    command: the script and its options, {out} for its folder. The runs are in `folder`: undisturbed, again and their like.
    They see one device, as on most machines of users.
    """
    drill = [sys.executable, "experiments/drill.py", "--kills", "2", "--out", str(folder)]
    done = subprocess.run(
        [*drill, "--compare", *compare, "--writes", writes, "--", "python", *map(str, command)],
        cwd=ROOT,
        env=environment(devices=1),
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 killed runs ended in the same" in done.stdout
