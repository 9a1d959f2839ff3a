"""GRPO in one call: a model, prompts, a reward. What experiments/grpo_7b.py does step by step, without its evaluation."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from dsm_jax.data.prompts import prompt_text
from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh
from dsm_jax.model.hf import Model, save_hf
from dsm_jax.processes import on_first_process
from dsm_jax.rl.config import CHANGEABLE, GRPOTraining
from dsm_jax.rl.grpo import GRPO, OnUpdate, run_grpo
from dsm_jax.rl.memory import require_memory
from dsm_jax.rl.prompts import Prompts, longest_prompt
from dsm_jax.rl.reward_functions import accuracy_reward
from dsm_jax.rl.reward_model.score import RewardModel
from dsm_jax.rl.scoring import AnyReward
from dsm_jax.run import is_done, open_run
from dsm_jax.sample.request import Tool
from dsm_jax.tokenizer import Tokenizer, load_tokenizer
from dsm_jax.train.start import find_start, keep_shape

REMEDY = "give more devices, a smaller micro_batch_tokens or slots, or lora=LoRA(rank=16)"
EXPORT = "model"  # in the run's folder


def train_grpo(
    init: str | Path,
    prompts: Sequence[Mapping[str, Any] | str],
    reward: AnyReward | Sequence[AnyReward] = accuracy_reward,
    *,
    out: str | Path,
    config: GRPOTraining | None = None,
    mesh: Mesh | None = None,
    tool: Tool | None = None,
    rng_seed: int = 0,
    on_update: OnUpdate | None = None,
) -> Model:
    """Trains a model and returns it; OUT/model is the same in Hugging Face's format.

    init: a Hugging Face folder, a hub id, or a run of ours. prompts: rows with a "question", which is put into
    DeepSeekMath's template, or a "prompt", which is taken as it is (a text alone too); their other fields are columns that
    rewards take. config: None is the paper's. out: the run's folder; the same call goes on where it was killed, one with
    other prompts or options (but CHANGEABLE) is refused. mesh: None takes every device. on_update(step, metrics) is called
    after each update. Raises UserError for what cannot work, before any work.
    """
    mesh, out, config = mesh or parse_mesh(), Path(out), config or GRPOTraining()
    rows = [_row(number, row) for number, row in enumerate(prompts)]
    if not rows:
        raise UserError("train_grpo: prompts is empty; give some")
    start = find_start(str(init), mesh, own=None)
    start.require_length("max_completion_length", config.max_completion_length)
    require_memory(config, start.config, mesh, remedy=REMEDY)
    start.require_params(mesh)
    folder = start.tokenizer()
    assert folder is not None  # only random numbers have none
    tokenizer = load_tokenizer(folder, rows=start.config.vocab_size)
    _require_room(rows, tokenizer, start.config.max_seq_len, config.max_completion_length)
    asked = Prompts(rows, config.prompts_per_rollout, rng_seed)
    grpo = GRPO(
        config, start.config, tokenizer, mesh, prompts=asked, reward=reward, tool=tool, rng_seed=rng_seed
    )
    if judges := [one for one in grpo.scorer.models if isinstance(one, RewardModel)]:
        longest = longest_prompt(rows, tokenizer)
        for one in judges:
            one.require_room(longest, config.max_completion_length)
    run = {"init": str(init), "grpo": config, "rng_seed": rng_seed, "prompts": asked.fingerprint()}
    run |= {"rewards": grpo.scorer.described()}

    def begin() -> None:
        open_run(out, run, CHANGEABLE)
        if is_done(out):
            print(f"{out}: this run has ended; its policy is loaded, nothing is trained", file=sys.stderr)
        keep_shape(start.config, folder, out)

    on_first_process(begin)
    params = run_grpo(grpo, lambda: start.params(mesh, rng_seed), out, on_update=on_update)
    model = Model(start.config, params)
    save_hf(model, out / EXPORT, folder)
    return model


def _row(number: int, row: Mapping[str, Any] | str) -> Mapping[str, Any]:
    row = {"prompt": row} if isinstance(row, str) else row
    field = "prompt" if "prompt" in row else "question"
    if field not in row:
        there = ", ".join(map(str, row)) or "nothing"
        raise UserError(f"train_grpo: prompt {number} has no question and no prompt (it has {there})")
    if not isinstance(row[field], str) or not row[field].strip():
        raise UserError(f"train_grpo: prompt {number}: its {field} is {row[field]!r}; give a text")
    return row if field == "prompt" else {"prompt": prompt_text(row[field]), **row}


def _require_room(
    rows: Sequence[Mapping[str, Any]], tokenizer: Tokenizer, most: int, completion: int
) -> None:
    """UserError for the first prompt that leaves a completion of full length no room in `most` tokens."""
    for number, row in enumerate(rows):
        length = 1 + len(tokenizer.encode(row["prompt"]))  # bos
        if length + completion > most:
            raise UserError(
                f"train_grpo: prompt {number} has {length} tokens, and with max_completion_length {completion} that is over "
                f"the model's {most}; shorten the prompt, or lower max_completion_length"
            )
