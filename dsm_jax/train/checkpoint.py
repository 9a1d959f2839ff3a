"""Checkpoints of a training state: saved while training goes on, restored onto any mesh.

A state is any pytree of jax arrays, PRNG keys of jax's default kind included. It is stored as a flat table of
names ("params.embed"), so that neither the tree's classes nor the mesh are part of the file. Orbax writes a
checkpoint beside its place and renames it: a killed save leaves the one before in force. Of several processes each
writes and reads its own parts, in one folder that all of them see.
Left out on purpose: the data position, which is the step; checksums.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath  # type: ignore[import-untyped]
from jax.experimental.multihost_utils import process_allgather

from dsm_jax.errors import UserError
from dsm_jax.place import TORN
from dsm_jax.processes import is_first_process, on_first_process

State = TypeVar("State")
Flat = dict[str, Any]
DAMAGE = ("NOT_FOUND", "DATA_LOSS", "OUT_OF_RANGE", "FAILED_PRECONDITION")  # TensorStore, of a bad file
DISK = (
    "No space left",
    "File too large",
    "quota exceeded",
    "Read-only file system",
)  # of a disk that takes no more


class Checkpoints:
    """The checkpoints in one folder, which may be gs:// or s3://: the last `keep`, and those of every `keep_every` steps
    (0: none). Close it, or use it in a `with` block.

    Opening it removes a save that was killed, with a message on stderr; not so to read only.
    """

    def __init__(self, folder: str | Path, keep: int = 2, keep_every: int = 0, *, read_only: bool = False):
        self.folder = epath.Path(folder).resolve()
        if read_only:
            options = ocp.CheckpointManagerOptions(read_only=True)
        else:
            self._tell_of_torn()
            options = ocp.CheckpointManagerOptions(
                max_to_keep=keep, keep_period=keep_every or None, cleanup_tmp_directories=True
            )
        handler = ocp.PyTreeCheckpointHandler()
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handler)

    def latest_step(self) -> int | None:
        """The newest step that was saved, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, *, wait: bool = False) -> None:
        """Copies `state` off the devices and writes it in the background; `wait` returns when it is on disk.

        The state's buffers may be donated once this returns. A step that is there already is left alone. Raises UserError
        where the disk does not take it, or did not take the one before.
        """
        with self._writing():
            if step not in self._manager.all_steps():
                flat = {name: _stored(leaf) for name, leaf in _flatten(state).items()}
                self._manager.save(step, args=ocp.args.PyTreeSave(flat), force=True)
            if wait:
                self._manager.wait_until_finished()

    def restore(self, target: State, step: int | None = None) -> State | None:
        """The state at `step`, or the newest one that can be read; None where nothing was saved.

        target: the state's pytree of jax.ShapeDtypeStruct, each with the sharding to restore to.
        A damaged checkpoint is passed over with a message and put aside as STEP.damaged.
        Errors: UserError where the checkpoint is of another model, or every one is damaged.
        """
        self._manager.wait_until_finished()
        steps = sorted(self._manager.all_steps(), reverse=True)
        if step is not None:
            if step not in steps:
                raise UserError(f"{self.folder}: no checkpoint of step {step}; there are {sorted(steps)}")
            steps = [step]
        damaged: dict[int, Exception] = {}
        for at in steps:
            damage = None
            try:
                state = self._read(at, target)
            except Exception as error:
                if not _means_damage(error):
                    raise
                damage = error
            if damage := _agree(damage):
                damaged[at] = damage
                continue
            self._put_aside(damaged, at)
            return state
        if damaged:
            reason = _reason(next(iter(damaged.values())))
            raise UserError(
                f"{self.folder}: no checkpoint can be read ({reason}); move this folder away and start again"
            )
        return None

    def restore_part(self, target: State, step: int | None = None) -> State:
        """Of a checkpoint (the newest one where step is None) the arrays that `target` names, and no others.

        Errors: UserError where there is none, or it holds no such arrays.
        """
        return self._read(self.require_part(target, step), target, part=True)

    def require_part(self, target: Any, step: int | None = None) -> int:
        """The step whose checkpoint restore_part would read; its errors, without reading an array."""
        steps = sorted(self._manager.all_steps())
        if not steps or (step is not None and step not in steps):
            raise UserError(
                f"{self.folder}: no checkpoint{f' of step {step}' if steps else ''}; there are {steps or 'none'}"
            )
        step = steps[-1] if step is None else step
        self._check_same_model(
            step, {name: _stored_struct(leaf) for name, leaf in _flatten(target).items()}, True
        )
        return step

    def holds(self, branch: str, step: int | None = None) -> bool:
        """Whether the checkpoint that restore_part would read has a branch of this name at its root."""
        step = self.latest_step() if step is None else step
        found = None if step is None else self._manager.item_metadata(step)
        return any(name.startswith(f"{branch}.") for name in found or ())

    def close(self) -> None:
        """Waits for the last save."""
        with self._writing():
            self._manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, OSError) as error:
            reason = next((sign for sign in DISK if sign in str(error)), None)
            if reason is None:
                raise
            raise UserError(
                f"{self.folder}: a checkpoint could not be written ({reason}); those before it stay: make room, and start "
                "the same command again"
            ) from error

    def _tell_of_torn(self) -> None:
        for torn in sorted(self.folder.glob(f"*{TORN}*")):
            _tell(f"{torn} was being written when the run was killed: removed")

    def _read(self, step: int, target: State, *, part: bool = False) -> State:
        wanted = {name: _stored_struct(leaf) for name, leaf in _flatten(target).items()}
        self._check_same_model(step, wanted, part)
        args = ocp.checkpoint_utils.construct_restore_args(wanted)
        how = ocp.args.PyTreeRestore(wanted, restore_args=args, partial_restore=part)
        flat = self._manager.restore(step, args=how)
        leaves = [_unstored(flat[name], leaf) for name, leaf in _flatten(target).items()]
        return jax.tree.unflatten(jax.tree.structure(target), leaves)

    def _check_same_model(self, step: int, wanted: Flat, part: bool) -> None:
        metadata = self._manager.item_metadata(step)
        if metadata is None:
            raise FileNotFoundError("its table of names is missing")
        here = {name: _form(leaf) for name, leaf in wanted.items()}
        there = {name: _form(leaf) for name, leaf in metadata.items() if name in here or not part}
        for name in here | there:
            if here.get(name) != there.get(name):
                if part:
                    raise UserError(
                        f"{self.folder}: step {step} holds no whole model ({name} is {there.get(name, 'absent')}); of a run "
                        "with LoRA give the folder that it exported (model/)"
                    )
                raise UserError(
                    f"{self.folder}: step {step} is of another model or optimiser: {name} is "
                    f"{there.get(name, 'absent')} there and {here.get(name, 'absent')} here; "
                    "give the options it was made with, or another folder"
                )

    def _put_aside(self, damaged: dict[int, Exception], used: int) -> None:
        if damaged:
            on_first_process(partial(self._rename, damaged, used))
            self._manager.reload()

    def _rename(self, damaged: dict[int, Exception], used: int) -> None:
        for step, error in damaged.items():
            _tell(f"{self.folder}: step {step} is damaged ({_reason(error)}): put aside; step {used} is used")
            aside = self.folder / f"{step}.damaged"
            if aside.exists():
                aside.rmtree()
            (self.folder / str(step)).rename(aside)


def _agree(damage: Exception | None) -> Exception | None:
    """The damage that this process or another one has found: all pass over the same checkpoints."""
    if jax.process_count() > 1 and process_allgather(np.bool_(damage is not None)).any():
        return damage or OSError("another process could not read it")
    return damage


def _flatten(tree: Any) -> Flat:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _stored(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _stored_struct(leaf: Any) -> Any:
    if not _is_key(leaf):
        return leaf
    data = jax.eval_shape(jax.random.key_data, leaf)
    return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=leaf.sharding)


def _unstored(stored: jax.Array, leaf: Any) -> jax.Array:
    return jax.random.wrap_key_data(stored) if _is_key(leaf) else stored


def _means_damage(error: Exception) -> bool:
    """Whether orbax raises this for a missing or cut file, and not where the disk or the memory fails."""
    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError | KeyError | FileNotFoundError):
        return True
    cause = error.__cause__ if type(error) is Exception else error  # of an array's data: in a bare Exception
    return isinstance(cause, ValueError) and str(cause).startswith(DAMAGE)


def _form(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype)}{list(leaf.shape)}"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _tell(message: str) -> None:
    if is_first_process():
        print(f"checkpoint: {message}", file=sys.stderr)
