"""grpo_7b.py called in this process, and a random model for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsm_jax import cli
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model import Model, save_hf
from dsm_jax.model.params import init_params


def save_random(shape, folder: Path, tokenizer: Path | None = None) -> None:
    save_hf(Model(shape, init_params(shape, 0, single_device_mesh())), folder, tokenizer)


def error_line(script, capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as end:
        cli.run_script(script.main, script.PRESETS, argv)
    *before, err = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and err.startswith("error: ")
    assert all(line.startswith("GRPO of ") for line in before)  # the memory that it takes
    return err + "\n"
