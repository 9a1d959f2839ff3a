"""What the tests of grpo_7b.py begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiments.grpo_command import save_random
from tests.experiments.scripts import load_script


@pytest.fixture(scope="module")
def script():
    return load_script("grpo_7b")


@pytest.fixture(scope="module")
def folder(script, tmp_path_factory) -> Path:
    """A random model of the smoke shape, with a tokenizer."""
    small, folder = script.SMOKE_MODEL, tmp_path_factory.mktemp("model")
    load_script("small_model").make_tokenizer(small, [], folder / "tokenizer", 0)
    save_random(small.model, folder / "hf", folder / "tokenizer/tokenizer.model")
    return folder
