"""From the name of a model to a sampler: a folder, a hub id, or a run of ours (its model/).

Left out on purpose: options on a command line; chat templates (chat.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh

from dsm_jax.errors import UserError
from dsm_jax.model import load_hf
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.hf_folder import find_folder, read_config
from dsm_jax.run import METRICS
from dsm_jax.sample.sampler import Sampler
from dsm_jax.tokenizer import Tokenizer, load_tokenizer


class Found(NamedTuple):
    """A model whose parameters are not read yet."""

    folder: Path
    config: ModelConfig
    tokenizer: Tokenizer


def find_model(name: str) -> Found:
    """The model's folder, shape and tokenizer. Raises UserError, naming --model, for what is missing or no model."""
    if not name:
        raise UserError("--model: give the folder of a model, a hub id, or a run")
    folder = find_folder(own_model(name))
    config = read_config(folder)
    return Found(Path(folder), config, load_tokenizer(folder, rows=config.vocab_size))


def load_sampler(found: Found, mesh: Mesh, *, dtype: str | None = None, slots: int | None = None) -> Sampler:
    """Reads the parameters onto the mesh. dtype None: float32 on a CPU, bfloat16 elsewhere; slots: as Sampler's."""
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    model = load_hf(found.folder, mesh, dtype=dtype or ("float32" if on_cpu else "bfloat16"))
    return Sampler(model, found.tokenizer, mesh, slots=slots)


def own_model(name: str) -> str:
    """The folder of the model that a run of ours ended in; any other name as it is."""
    result = Path(name) / "model"
    if (Path(name) / METRICS).exists() and not (result / "config.json").is_file():
        raise UserError(f"{name}: this run has no model yet; the command that began it goes on with it")
    return str(result) if (result / "config.json").is_file() else name
