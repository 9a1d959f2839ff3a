"""The scripts of experiments/ in this process: imported as they import each other, and run with a command line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from dsm_jax import cli

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def load_script(name: str) -> ModuleType:
    if str(EXPERIMENTS) not in sys.path:
        sys.path.insert(0, str(EXPERIMENTS))
    return importlib.import_module(name)


def run(script: ModuleType, *argv: str | Path) -> None:
    """The script with these words; presets are its PRESETS."""
    cli.run_script(script.main, script.PRESETS, [str(word) for word in argv])


def error_line(script: ModuleType, capsys: pytest.CaptureFixture, *argv: str | Path) -> str:
    """The line that a user's mistake ends in."""
    with pytest.raises(SystemExit) as end:
        run(script, *argv)
    err = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and err[-1].startswith("error: ")
    return err[-1]
