"""What training starts from: a Hugging Face folder, a hub id, a run of ours, or random numbers; shape, tokenizer, parameters.

A run keeps what its checkpoints leave out, the model's shape and its tokenizer, in checkpoints/model/ (keep_shape): with
that, --init RUN takes the newest checkpoint, and RUN/checkpoints/STEP that one. RUN may be a URL. Of GRPO it is the policy.
Left out on purpose: a run's optimiser (a new stage begins its own), and LoRA's checkpoints (take the run's model/).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from dsm_jax.errors import UserError
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.model.hf import load_hf, save_shape
from dsm_jax.model.hf_folder import find_config, find_folder, find_tensors, read_config
from dsm_jax.model.params import abstract_params, check_mesh, init_params
from dsm_jax.place import find_place
from dsm_jax.tokenizer import load_tokenizer
from dsm_jax.train.checkpoint import Checkpoints

CHECKPOINTS, SHAPE = "checkpoints", "model"  # folders of a run
POLICY = "train"  # in a checkpoint of GRPO, beside the reference


@dataclass(frozen=True)
class Start:
    """A model to start from; `config` computes in bf16 but on CPUs. init None: random numbers."""

    init: str | None
    config: ModelConfig

    def require_length(self, option: str, tokens: int) -> None:
        """UserError, naming the option, where the model takes fewer tokens."""
        if tokens > self.config.max_seq_len:
            raise UserError(f"{option} {tokens} is longer than the model's {self.config.max_seq_len} tokens")

    def require_params(self, mesh: Mesh) -> None:
        """UserError where a folder or a run has not the model's parameters; none of them is read."""
        run = _find_run(self.init) if self.init else None
        if run:
            with Checkpoints(run.checkpoints, read_only=True) as checkpoints:
                checkpoints.require_part(self._target(checkpoints, run, mesh), run.step)
        elif self.init and Path(self.init).is_dir():
            find_tensors(Path(self.init), self.config, any_dtype=True)

    def tokenizer(self) -> Path | None:
        """Its folder, downloaded where it is not here; None of random numbers. UserError where it is not the model's."""
        if self.init is None:
            return None
        run = _find_run(self.init)
        folder = run.shape if run else find_folder(self.init)
        load_tokenizer(folder, rows=self.config.vocab_size)
        return folder

    def params(self, mesh: Mesh, rng_seed: int) -> Params:
        """The parameters in fp32 on the mesh. rng_seed: of random numbers."""
        if self.init is None:
            return init_params(self.config, rng_seed, mesh)
        run = _find_run(self.init)
        if run is None:
            return load_hf(self.init, mesh, dtype="float32").params
        with Checkpoints(run.checkpoints, read_only=True) as checkpoints:
            found = checkpoints.restore_part(self._target(checkpoints, run, mesh), run.step)
            return found.get(POLICY, found)["params"]

    def _target(self, checkpoints: Checkpoints, run: _Run, mesh: Mesh) -> dict[str, Any]:
        """The parameters' place in the run's checkpoints, with their shapes."""
        params = {"params": abstract_params(self.config, mesh)}
        return {POLICY: params} if checkpoints.holds(POLICY, run.step) else params


def find_start(init: str | None, mesh: Mesh, *, own: ModelConfig | None) -> Start:
    """Nothing but the shape is read or downloaded. own: the model where `init` is None; UserError where there is neither."""
    if init is None:
        if own is None:
            raise UserError("--init: this preset has no model of its own; give a folder, a hub id or a run")
        return Start(None, compute_dtype(own, mesh))
    run = _find_run(init)
    return Start(init, compute_dtype(read_config(run.shape) if run else find_config(init), mesh))


def compute_dtype(config: ModelConfig, mesh: Mesh) -> ModelConfig:
    """The same model, computing in bf16 where the hardware does; its parameters stay fp32."""
    check_mesh(config, mesh)
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return replace(config, dtype="float32" if on_cpu else "bfloat16")


def keep_shape(config: ModelConfig, tokenizer: Path, run: Path) -> None:
    """Writes what find_start needs of a run, beside its checkpoints."""
    save_shape(config, run / CHECKPOINTS / SHAPE, tokenizer, as_it_is=True)


@dataclass(frozen=True)
class _Run:
    shape: Path
    checkpoints: str | Path
    step: int | None  # None: the newest


def _find_run(init: str) -> _Run | None:
    """A run of ours, or None where `init` is something else."""
    place, folder = find_place(init), Path(init)
    if place.folder != folder:  # a URL's copy here
        return _Run(place.folder / CHECKPOINTS / SHAPE, place.checkpoints, None)
    if folder.name.isdigit() and (folder.parent / SHAPE / "config.json").is_file():
        if not folder.is_dir():
            raise UserError(f"{init}: no such checkpoint in {folder.parent}")
        return _Run(folder.parent / SHAPE, folder.parent, int(folder.name))
    if (folder / CHECKPOINTS / SHAPE / "config.json").is_file():
        return _Run(folder / CHECKPOINTS / SHAPE, folder / CHECKPOINTS, None)
    return None
