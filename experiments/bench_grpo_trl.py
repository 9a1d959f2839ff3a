"""bench_grpo.py's peer TRL: GRPOTrainer.train on torch with generate() of transformers, on the weights that our worker
wrote, one step at a time. Into how many micro-batches it parts them the request says. Runs in an environment of its own and imports
nothing of ours."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from bench_grpo_work import BOS, EOS, PAD, OneStepAtATime, Reward
from bench_worker import serve
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class Pause(TrainerCallback):
    """Waits before each step."""

    def __init__(self) -> None:
        self.pause: Callable[[], None] = lambda: None

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.pause()


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Task -> what runs it once."""
    torch.set_num_threads(request["threads"])
    reward, pause = Reward(), Pause()
    trainer = GRPOTrainer(
        request["folder"],
        reward_funcs=reward,
        args=settings(request),
        train_dataset=Dataset.from_dict({"prompt": [" ".join(map(str, ids)) for ids in request["prompts"]]}),
        processing_class=tokenizer(request["model"]["vocab_size"]),
        callbacks=[pause],
    )
    found = scores(trainer, request["scored"])

    def train(wait: Callable[[], None]) -> None:
        torch.set_num_threads(request["threads"])  # a thread has its own number
        pause.pause = wait
        trainer.train()

    loop = OneStepAtATime(train)
    return {"step": loop.step, "report": lambda: {"scores": found, "text_tokens": reward.tokens}}


def settings(request: dict[str, Any]) -> GRPOConfig:
    """The paper's objective, nothing logged or saved, all rows generated at once."""
    rows, parts = request["prompts_per_step"] * request["n"], request["peer_micro_batches"]
    optimizer = request["optimizer"]
    return GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=rows // parts,
        gradient_accumulation_steps=parts,
        num_generations=request["n"],
        max_completion_length=request["max_new_tokens"],
        beta=request["beta"],
        loss_type="grpo",
        use_bias_correction_kl=False,
        num_iterations=1,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        learning_rate=optimizer["peak_lr"],
        adam_beta1=optimizer["b1"],
        adam_beta2=optimizer["b2"],
        adam_epsilon=optimizer["eps"],
        weight_decay=optimizer["weight_decay"],
        max_grad_norm=optimizer["clip_norm"],
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        max_steps=1 << 20,
        model_init_kwargs={"dtype": "float32", "attn_implementation": "sdpa"},
        activation_checkpointing=False,
        bf16=False,
        use_cpu=True,
        dataloader_pin_memory=False,
        shuffle_dataset=False,
        torch_compile=request["peer_compile"],
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )


def tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """Of texts that are numbers."""
    words = Tokenizer(WordLevel({str(one): one for one in range(vocab_size)}, unk_token=str(PAD)))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token=str(BOS),
        pad_token=str(PAD),
        eos_token=str(EOS),
        padding_side="left",
    )


def scores(trainer: GRPOTrainer, scored: dict[str, Any]) -> list[list[float]]:
    """Log-probabilities of given completions."""
    ids = torch.cat([torch.tensor(scored["prompts"]), torch.tensor(scored["completions"])], 1)
    steps = len(scored["completions"][0])
    with torch.no_grad():
        found = trainer._get_per_token_logps_and_entropies(trainer.model, ids, torch.ones_like(ids), steps)
    return found[0].tolist()


if __name__ == "__main__":
    serve(build)
