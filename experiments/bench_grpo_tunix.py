"""bench_grpo.py's peer Tunix: GRPOLearner.train with its own Llama and its vanilla rollout, every parameter trained, on the
weights that our worker wrote, one step at a time. Into how many micro-batches it parts a step the request says. Runs in an
environment of its own and imports nothing of ours."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from bench_grpo_work import BOS, EOS, PAD, OneStepAtATime, Reward, ids_of, text_of
from bench_train_tunix import adamw, model_config
from bench_worker import serve
from flax import nnx
from tunix.models.llama3 import params as llama3_params
from tunix.rl import rl_cluster
from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
from tunix.rl.rollout.base_rollout import RolloutConfig


class Ids:
    """A tokenizer of texts that are numbers."""

    def encode(self, text: str) -> list[int]:
        return ids_of(text)

    def decode(self, ids: list[int]) -> str:
        return text_of(ids)

    def bos_id(self) -> int:
        return BOS

    def pad_id(self) -> int:
        return PAD

    def eos_id(self) -> int:
        return EOS


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Task -> what runs it once."""
    cluster, reward, count = make_cluster(request), Reward(), request["prompts_per_step"]
    learner = GRPOLearner(
        rl_cluster=cluster,
        reward_fns=reward,
        algo_config=GRPOConfig(
            num_generations=request["n"], num_iterations=1, beta=request["beta"], kl_loss_mode="low_var_kl"
        ),
    )
    found = scores(cluster, request["scored"])
    prompts = [" ".join(map(str, ids)) for ids in request["prompts"]]
    batches = [{"prompts": np.array(prompts[at : at + count])} for at in range(0, len(prompts), count)]

    def train(pause: Callable[[], None]) -> None:
        def asked() -> Iterator[dict[str, np.ndarray]]:
            for number, batch in enumerate(itertools.cycle(batches)):
                cluster.cluster_config.rollout_config.seed = number  # else every step draws by the same key
                jax.block_until_ready(nnx.state(cluster.actor_trainer.model))
                pause()
                yield dict(batch)

        learner.train(asked())

    loop = OneStepAtATime(train)
    return {"step": loop.step, "report": lambda: {"scores": found, "text_tokens": reward.tokens}}


def make_cluster(request: dict[str, Any]) -> rl_cluster.RLCluster:
    """Actor and reference from the folder, with the vanilla rollout, all on one device."""
    folder = Path(request["folder"])
    config = model_config(json.loads((folder / "config.json").read_text()), request["peer_remat"])
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("fsdp", "tp"))
    roles = (rl_cluster.Role.ACTOR, rl_cluster.Role.REFERENCE, rl_cluster.Role.ROLLOUT)

    def model() -> Any:
        return llama3_params.create_model_from_safe_tensors(str(folder), config, dtype=jnp.float32)

    return rl_cluster.RLCluster(
        actor=model(),
        reference=model(),
        tokenizer=Ids(),
        cluster_config=rl_cluster.ClusterConfig(
            role_to_mesh=dict.fromkeys(roles, mesh),
            rollout_engine="vanilla",
            training_config=training(request),
            rollout_config=rollout(request),
        ),
    )


def training(request: dict[str, Any]) -> rl_cluster.RLTrainingConfig:
    count = request["prompts_per_step"]
    return rl_cluster.RLTrainingConfig(
        actor_optimizer=adamw(request["optimizer"]),
        eval_every_n_steps=1 << 30,
        max_steps=1 << 20,
        mini_batch_size=count,
        train_micro_batch_size=count // request["peer_micro_batches"],
        rollout_micro_batch_size=count,
        compute_logps_micro_batch_size=count // request["peer_reference_batches"],
    )


def rollout(request: dict[str, Any]) -> RolloutConfig:
    length, new = len(request["prompts"][0]), request["max_new_tokens"]
    return RolloutConfig(
        max_tokens_to_generate=new,
        max_prompt_length=length,
        kv_cache_size=length + new,
        temperature=1.0,
        top_p=1.0,
    )


def scores(cluster: rl_cluster.RLCluster, scored: dict[str, Any]) -> list[list[float]]:
    """Log-probabilities of given completions."""
    found = cluster.get_ref_per_token_logps(
        prompt_tokens=jnp.array(scored["prompts"]),
        completion_tokens=jnp.array(scored["completions"]),
        pad_id=PAD,
        eos_id=EOS,
    )
    return np.asarray(found).tolist()


if __name__ == "__main__":
    serve(build)
    os._exit(0)  # a thread of its executor still waits for a step, and Python would wait for it
