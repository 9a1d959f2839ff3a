"""Tiny models that know given answers by heart: for tests that need some of them right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from dsm_jax.data.mixture import Mixture, Source
from dsm_jax.data.prompts import prompt_text
from dsm_jax.data.sft import sft_windows
from dsm_jax.data.windows import Example, Packed, pack_examples
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model import Model, save_hf
from dsm_jax.model.config import SMOKE, ModelConfig
from dsm_jax.model.params import init_params
from dsm_jax.tokenizer import Tokenizer, train_sentencepiece
from dsm_jax.train.lm import LMTraining, train_lm
from dsm_jax.train.loop import LoopConfig
from dsm_jax.train.optimizer import OptimizerConfig

SHORT = 8  # characters of a line that is spelled
SPACE = "\u2581"  # as sentencepiece has it within a piece


class Lesson(NamedTuple):
    """A prompt and what follows it: pieces that are targets, and pieces that a tool inserts between them."""

    prompt: str
    pieces: Sequence[str]  # the first, third, .. are the model's


def overfit(lessons: Sequence[Lesson], folder: Path, *, steps: int, window: int, spelled: int = 900) -> Path:
    """The folder of a model in Hugging Face's format that was trained on the lessons; each ends with the end of sequence.

    Each line of the prompts is a token of its own, so that what is to be told apart is short. spelled: other pieces.
    """
    texts = [one.prompt + "".join(one.pieces) for one in lessons]
    lines = dict.fromkeys(line for one in lessons for line in one.prompt.split("\n") if len(line) > SHORT)
    size, symbols = -(-(len(lines) + spelled) // 8) * 8, [line.replace(" ", SPACE) for line in lines]
    tokenizer = train_sentencepiece(texts, folder / "tokenizer.model", vocab_size=size, symbols=symbols)
    model = replace(SMOKE, vocab_size=size, d_ff=128, max_seq_len=8 * window)
    windows = pack_examples([_example(one, tokenizer) for one in lessons], window)
    learnt = _train(model, windows, folder / "run", steps=steps, rows=8, window=window)
    save_hf(learnt, folder / "model", folder / "tokenizer.model")
    return folder / "model"


def overfit_pairs(
    pairs: Sequence[tuple[str, str]],
    folder: Path,
    config: ModelConfig,
    *,
    texts: Sequence[str] = (),
    steps: int,
    window: int = 128,
) -> tuple[Model, Tokenizer]:
    """Trained on (question, answer) pairs in the chat's template. texts: what else its tokenizer is to know."""
    known = [text for question, answer in pairs for text in (prompt_text(question), answer)]
    tokenizer = train_sentencepiece(
        [*known, *texts], folder / "tokenizer.model", vocab_size=config.vocab_size
    )
    windows = sft_windows(pairs, tokenizer, window)
    return _train(config, windows, folder, steps=steps, rows=8, window=window), tokenizer


def _train(model: ModelConfig, packed: Packed, folder: Path, *, steps: int, rows: int, window: int) -> Model:
    assert not packed.dropped, f"{packed.dropped} examples are longer than {window} tokens"
    training = LMTraining(
        LoopConfig(steps=steps, log_every=50, checkpoint_every=steps),
        OptimizerConfig(peak_lr=3e-3, warmup_steps=10, weight_decay=0.0),
        batch_size=rows,
        window=window,
    )
    mesh = single_device_mesh()
    params = train_lm(
        training,
        model,
        mesh,
        batch=Mixture({"lessons": Source(packed.windows, 1.0)}, rows, 0).batch,
        start=lambda: init_params(model, 0, mesh),
        folder=folder,
        description="overfit",
    )
    return Model(model, params)


def _example(lesson: Lesson, tokenizer: Tokenizer) -> Example:
    ids = [tokenizer.bos_id, *tokenizer.encode(lesson.prompt)]
    targets = [False] * len(ids)
    for place, piece in enumerate(lesson.pieces):
        new = tokenizer.encode(piece)
        ids += new
        targets += [place % 2 == 0] * len(new)
    return Example([*ids, tokenizer.eos_id], [*targets, True])
