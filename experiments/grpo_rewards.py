"""The rewards that --reward names: rules, and trained reward models from their folders. Not a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from jax.sharding import Mesh

from dsm_jax.errors import UserError
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.hf_folder import find_folder, read_config
from dsm_jax.rl.config import GRPOTraining
from dsm_jax.rl.prompts import Row, longest_prompt
from dsm_jax.rl.reward_calls import Reward
from dsm_jax.rl.reward_functions import accuracy_reward, format_reward, overlong_penalty
from dsm_jax.rl.reward_model.folder import load_reward_model, read_form
from dsm_jax.rl.reward_model.form import Kind
from dsm_jax.rl.reward_model.score import RewardModel, require_fitting, require_room
from dsm_jax.rl.scoring import AnyReward
from dsm_jax.rl.steps.segments import Splitting
from dsm_jax.sample.loading import own_model
from dsm_jax.tokenizer import Tokenizer, load_tokenizer
from dsm_jax.train.start import compute_dtype

RULES = ("accuracy", "format", "overlong")
OVERLONG = (
    5  # the overlong penalty begins a fifth below the longest completion (DAPO: 4,096 of 20,480 tokens)
)


def kind_of(name: str) -> str:
    """accuracy, format, overlong; process or outcome of a model."""
    return name.partition(":")[0]


def require_known(names: Sequence[str]) -> None:
    """UserError for a name that is neither a rule nor KIND:DIR."""
    for name in names:
        if name not in RULES and not (kind_of(name) in get_args(Kind) and name.partition(":")[2]):
            raise UserError(
                f"--reward {name}: give {', '.join(RULES)}, process:DIR or outcome:DIR, the folder of a reward model"
            )


def rewards(names: Sequence[str], config: GRPOTraining, mesh: Mesh) -> list[AnyReward]:
    """Models are read onto the mesh, in the dtype that it computes in."""
    return [_rule(name, config) if name in RULES else judge(name, mesh) for name in names]


def judge_configs(names: Sequence[str], mesh: Mesh) -> list[ModelConfig]:
    """The shapes of the models among them; nothing else of these is read. UserError for what is no reward model."""
    return [compute_dtype(read_config(_folder(name)), mesh) for name in names if name not in RULES]


def require_judges(names: Sequence[str], tokenizer: Tokenizer, splitting: Splitting) -> None:
    """UserError where a model among them cannot score a policy of this tokenizer; none of its parameters is read."""
    for name in names:
        if name in RULES:
            continue
        folder = _folder(name)
        own = load_tokenizer(folder, rows=read_config(folder).vocab_size)
        with _of(name):
            require_fitting(read_form(folder), own, tokenizer, splitting)


def require_judges_room(
    names: Sequence[str], rows: Sequence[Row], tokenizer: Tokenizer, completion: int
) -> None:
    """UserError where a model among them reads less than the longest of the prompts and a completion of this length."""
    if models := [name for name in names if name not in RULES]:
        prompt = longest_prompt(rows, tokenizer)
        for name in models:
            with _of(name):
                require_room(read_config(_folder(name)), prompt, completion)


@contextmanager
def _of(name: str) -> Iterator[None]:
    """A UserError names the option."""
    try:
        yield
    except UserError as error:
        raise UserError(f"--reward {name}: {error}") from error


def _rule(name: str, config: GRPOTraining) -> Reward:
    length = config.max_completion_length
    known = {
        "accuracy": accuracy_reward,
        "format": format_reward,
        "overlong": overlong_penalty(length, margin=-(-length // OVERLONG)),
    }
    return known[name]


def judge(name: str, mesh: Mesh) -> RewardModel:
    """The reward model that KIND:DIR names, read onto the mesh."""
    folder = _folder(name)
    return load_reward_model(folder, mesh, compute_dtype(read_config(folder), mesh).dtype)


def _folder(name: str) -> Path:
    kind, _, given = name.partition(":")
    folder = find_folder(own_model(given))
    if (there := read_form(folder).kind) != kind:
        raise UserError(f"--reward {name}: this reward model judges the {there}; write {there}:{given}")
    return folder
