"""The small models as Hugging Face folders in a cache: each is made once, on the first device, and shared by the scripts.

The policy is pretrained and finetuned to its stop rule; the completer is the policy finetuned further, for a setting that
labels steps. Not a script: the scripts call its functions. Left out on purpose: models that GRPO has trained.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
from small_model import (
    STEPS_COMPLETER,
    STEPS_MODEL,
    STEPS_SMOKE_COMPLETER,
    STEPS_SMOKE_MODEL,
    SmallModel,
    finetune,
    make_tokenizer,
    pretrain,
)

from dsm_jax.errors import UserError
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model.hf import Model, load_hf, save_hf
from dsm_jax.tokenizer import load_tokenizer
from dsm_jax.train.lm import LMTraining

SMALL_SEED = 0  # of these models, whatever --rng-seed: runs of several seeds start from the same one
TOKENIZER = Path("tokenizer/tokenizer.model")  # in a policy's folder
# Of process supervision, by preset: the policy, and the SFT that makes its completer.
STEPS = {
    "tiny": (STEPS_MODEL, STEPS_COMPLETER),
    "smoke": (STEPS_SMOKE_MODEL, STEPS_SMOKE_COMPLETER),
}


class StepsFolders(NamedTuple):
    """Hugging Face folders of the policy whose steps are labelled, and of what completes its prefixes."""

    policy: Path
    completer: Path


def steps_folders(cache: Path, preset: str) -> StepsFolders:
    """Where the cache keeps both models of STEPS[preset]."""
    small, further = STEPS[preset]
    name = f"steps-{preset}"
    return StepsFolders(policy_folder(cache, name, small), completer_folder(cache, name, small, further))


def make_steps_models(cache: Path, preset: str) -> StepsFolders:
    """Both models of STEPS[preset], made where they are not there. UserError while another process makes one of them."""
    small, further = STEPS[preset]
    folders = steps_folders(cache, preset)
    make_completer(small, further, *folders)
    return folders


def policy_folder(cache: Path, preset: str, small: SmallModel) -> Path:
    """Where the cache keeps the small SFT model of this recipe.

    GRPO's numbers are part of it: SFT's stop rule samples with its slots and its longest completion.
    """
    return cache.expanduser() / f"{preset}-sft-{_short_hash(small)}"


def completer_folder(cache: Path, preset: str, small: SmallModel, further: LMTraining) -> Path:
    """Where the cache keeps the policy of this recipe with further SFT."""
    return cache.expanduser() / f"{preset}-completer-{_short_hash(small, further)}"


def is_made(folder: Path) -> bool:
    return (folder / "config.json").exists()  # save_hf writes it last


def require_made(preset: str, cache: Path, folders: Sequence[Path], instead: str) -> None:
    """UserError where several processes run, of which only one could make these models, and one is not there."""
    if jax.process_count() > 1 and not all(map(is_made, folders)):
        raise UserError(
            f"--preset {preset}: one process makes its small models, and there are several; run the command once in one, with "
            f"a --cache that all see (now {cache}), or give {instead}"
        )


def make_policy(small: SmallModel, folder: Path) -> None:
    """Makes `folder` a Hugging Face folder of the small SFT model. UserError while another process makes it."""
    _once(folder, lambda: _train_policy(small, folder))


def make_completer(small: SmallModel, further: LMTraining, policy: Path, folder: Path) -> None:
    """Makes `folder` one of the policy in the folder `policy`, finetuned further on the policy's own SFT set; the policy
    too where it is not there. UserError while another process makes one of them."""
    make_policy(small, policy)
    _once(folder, lambda: _train_completer(small, further, policy, folder))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds folder/lock, which names this process. The system lets go of it when the process ends, killed or not."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"{folder}: process {file.read()} is making this model; start again when it has, or give another --cache"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _once(folder: Path, make: Callable[[], None]) -> None:
    if is_made(folder):
        return
    with locked(folder):
        if not is_made(folder):  # by another process just now
            make()


def _train_policy(small: SmallModel, folder: Path) -> None:
    mesh = single_device_mesh()
    tokenizer = make_tokenizer(small, [], (folder / TOKENIZER).parent, SMALL_SEED)
    base = pretrain(small, [], tokenizer, mesh, folder / "pretrain", SMALL_SEED)
    sft = finetune(small, base, tokenizer, mesh, folder / "sft", SMALL_SEED)
    save_hf(Model(small.model, sft), folder, folder / TOKENIZER)


def _train_completer(small: SmallModel, further: LMTraining, policy: Path, folder: Path) -> None:
    mesh, tokenizer = single_device_mesh(), load_tokenizer(policy / TOKENIZER)
    start = load_hf(policy, mesh, dtype="float32").params
    longer = replace(small, sft=further)
    params = finetune(longer, start, tokenizer, mesh, folder / "sft", SMALL_SEED, steps=further.loop.steps)
    save_hf(Model(small.model, params), folder, policy / TOKENIZER)


def _short_hash(*recipe: object) -> str:
    """The same as of the recipe alone where there is one."""
    return hashlib.sha256("".join(map(repr, recipe)).encode()).hexdigest()[:8]
