"""Rollouts on disk: what was sampled and scored since the last checkpoint is read again after a restart, not made again.

Sampling is a function of parameters, seed and question, so that completions which are missing or damaged are made again,
while their policy is there, with the same content; but minutes of decoding, answers of tools and calls of rewards are not
lost. A draw is one call of the sampler and has two files: its completions, and their scores. Of several processes the first
one writes and reads.
Left out on purpose: a call of the sampler that was cut short. Going on in a batch of another shape could turn a near-tie.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.processes import from_first_process, is_first_process, on_first_process
from dsm_jax.rl.rewards import Scores, Steps
from dsm_jax.run import atomic
from dsm_jax.sample.request import Completion

Arrays = dict[str, np.ndarray]
TOKENWISE = ("tokens", "logps", "full_logps", "inserted")
PLAIN = ("text", "finish_reason", "error")
OF_STEPS = ("step_counts", "step_ends", "step_rewards", "step_by_name")


class Kept(NamedTuple):
    """What was sampled for the questions of a draw."""

    questions: np.ndarray  # their numbers, where they have any
    completions: list[list[Completion]]
    prompts: str  # name_of their prompts


class Journal:
    """The rollouts in one folder, by the number of the draw."""

    def __init__(self, folder: Path):
        self.folder = folder

    def completions(self, draw: int) -> Kept | None:
        """None where they are not there."""
        arrays = self._read(f"{draw:06d}.completions")
        if arrays is None:
            return None
        columns = json.loads(arrays.pop("json").tobytes())
        lengths = arrays.pop("lengths")
        pieces = [_pieces(arrays[name], lengths) for name in TOKENWISE]
        flat = [
            Completion(plain[0], *tokenwise, *plain[1:])
            for *tokenwise, plain in zip(*pieces, columns["rows"], strict=True)
        ]
        each = columns["group"]
        groups = [flat[start : start + each] for start in range(0, len(flat), each)]
        return Kept(arrays["questions"], groups, columns["prompts"])

    def keep_completions(self, draw: int, kept: Kept) -> None:
        """All groups have the same size."""
        flat = [one for group in kept.completions for one in group]
        arrays = {name: np.concatenate([getattr(one, name) for one in flat]) for name in TOKENWISE}
        arrays["lengths"] = np.array([len(one.tokens) for one in flat])
        rows = [[getattr(one, name) for name in PLAIN] for one in flat]
        arrays["questions"] = kept.questions
        arrays["json"] = _bytes({"group": len(kept.completions[0]), "rows": rows, "prompts": kept.prompts})
        on_first_process(lambda: self._write(f"{draw:06d}.completions", arrays))

    def scores(self, draw: int, make: Callable[[], Scores]) -> Scores:
        """What the rewards gave; where that is not there, the first process makes it."""
        name = f"{draw:06d}.scores"
        found = self._read(name)
        if found is None:
            on_first_process(lambda: self._write(name, _scores_arrays(make())))
            found = self._read(name)
        if found is None:
            raise UserError(f"{self.folder}: {name}.npz cannot be read; every process must see this folder")
        return _scores(found)

    def model_scores(self, draw: int, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """What trained models gave, by their names; where that is not there, every process makes it."""
        name = f"{draw:06d}.models"
        found = self._read(name)
        if found is None:
            made = make()
            on_first_process(lambda: self._write(name, _named(made)))
            return made
        return dict(zip(json.loads(found.pop("json").tobytes()), found.values(), strict=True))

    def old_logps(self, draw: int) -> list[np.ndarray]:
        """The old policy's log-probabilities, of each completion that is trained on. UserError where they are not there."""
        return self.old(draw)["logps"]

    def keep_old_logps(self, draw: int, logps: Sequence[np.ndarray]) -> None:
        self.keep_old(draw, {"logps": logps})

    def old(self, draw: int) -> dict[str, list[np.ndarray]]:
        """What the policy of the rollout's first update gave, by name. UserError where it is not there."""
        arrays = self._read(f"{draw:06d}.old")
        if arrays is None:
            raise UserError(
                f"{self.folder}: the old policy's log-probabilities of rollout {draw} are missing, and that policy is gone; "
                "start the run anew in another folder"
            )
        lengths = arrays.pop("lengths")
        return {name: _pieces(joined, lengths) for name, joined in arrays.items()}

    def keep_old(self, draw: int, columns: Mapping[str, Sequence[np.ndarray]]) -> None:
        """Of each completion's tokens, by name."""
        arrays = {name: np.concatenate(pieces) for name, pieces in columns.items()}
        arrays["lengths"] = np.array([len(one) for one in next(iter(columns.values()))])
        on_first_process(lambda: self._write(f"{draw:06d}.old", arrays))

    def forget(self, before: int) -> None:
        """Removes the draws with a smaller number."""

        def remove() -> None:
            for path in self.folder.glob("*.npz"):
                if int(path.name.partition(".")[0]) < before:
                    path.unlink(missing_ok=True)

        on_first_process(remove)

    def _write(self, name: str, arrays: Arrays) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic(self.folder / f"{name}.npz") as tmp, tmp.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    def _read(self, name: str) -> Arrays | None:
        path = self.folder / f"{name}.npz"
        data = from_first_process(lambda: path.read_bytes() if path.exists() else b"")
        if not data:
            return None
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as found:
                return dict(found)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            if is_first_process():
                print(f"{path} is damaged ({error}): not used", file=sys.stderr)
            return None


def name_of(prompts: Sequence[str]) -> str:
    """A short name that other prompts do not have."""
    return hashlib.sha256(json.dumps(list(prompts)).encode()).hexdigest()[:16]


def _pieces(joined: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return np.split(joined, np.cumsum(lengths)[:-1])


def _scores_arrays(scores: Scores) -> Arrays:
    plain = {"names": list(scores.by_name), "failures": scores.failures}
    arrays = {"total": scores.total, "by_name": np.stack(list(scores.by_name.values()))}
    if scores.steps:
        plain["of_steps"] = list(scores.steps.by_name)
        by_name = np.stack(list(scores.steps.by_name.values()))
        arrays |= dict(zip(OF_STEPS, (*scores.steps[:3], by_name), strict=True))
    return arrays | {"json": _bytes(plain)}


def _scores(arrays: Arrays) -> Scores:
    plain = json.loads(arrays["json"].tobytes())
    by_name = dict(zip(plain["names"], arrays["by_name"], strict=True))
    steps = None
    if "of_steps" in plain:
        counts, ends, rewards, values = (arrays[name] for name in OF_STEPS)
        steps = Steps(counts, ends, rewards, dict(zip(plain["of_steps"], values, strict=True)))
    return Scores(arrays["total"], by_name, plain["failures"], steps)


def _named(arrays: dict[str, np.ndarray]) -> Arrays:
    return {"json": _bytes(list(arrays))} | {f"{i}": one for i, one in enumerate(arrays.values())}


def _bytes(value: Any) -> np.ndarray:
    return np.frombuffer(json.dumps(value).encode(), np.uint8)
