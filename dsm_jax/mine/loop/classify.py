"""fastText: train on seed against negatives, score pages.

Training is reproducible with one thread only; more threads are for size.

Left out on purpose: subword features, quantisation, hyper-parameter search.
"""

import errno
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import fasttext

from dsm_jax.errors import UserError
from dsm_jax.run import atomic

MATH, OTHER = "__label__math", "__label__other"
_BATCH = 512
_MAX_EPOCHS = 25
_FASTTEXT_ADDS = 1e-5  # to a probability, before it takes the logarithm


@dataclass(frozen=True)
class FastTextConfig:
    """fastText's own options; the defaults are the paper's (section 2.1), bucket and loss the library's.

    Few texts take more epochs than `epoch`, see epochs_for.
    """

    dim: int = 256
    lr: float = 0.1
    word_ngrams: int = 3
    min_count: int = 3
    epoch: int = 3
    texts_seen: int = 7_500
    """With few texts more epochs, at most 25, so that so many texts are seen (ours)."""
    bucket: int = 2_000_000
    thread: int = 1

    def __post_init__(self) -> None:
        for name in ("dim", "word_ngrams", "min_count", "epoch", "texts_seen", "bucket", "thread"):
            if not 1 <= getattr(self, name) < 2**31:
                option = f"--classifier.{name.replace('_', '-')}"
                raise UserError(f"{option} {getattr(self, name)}: must be from 1 to 2147483647")
        if not 0 < self.lr < math.inf:
            raise UserError(f"--classifier.lr {self.lr}: must be a positive number")


def epochs_for(documents: int, config: FastTextConfig) -> int:
    """Epochs to train `documents` texts: config.epoch, with few texts as many as see config.texts_seen, at most 25.

    At lr 0.1 fastText has hardly learnt before, and past twice as many learns its few texts by heart, the wrong
    labels among them (ours; docs/mining.md has the measurements). The paper's million of texts are not few.
    """
    return max(config.epoch, min(_MAX_EPOCHS, math.ceil(config.texts_seen / documents)))


def train(training_file: Path, model: Path, config: FastTextConfig) -> None:
    """Trains on lines "MATH tokens" and "OTHER tokens"; writes the model, which appears whole.

    Reproducible with config.thread == 1. Raises UserError for training that diverges or finds no word.
    """
    with open(training_file, "rb") as lines:
        documents = sum(1 for _ in lines)
    fitted = _fit(training_file, config, epochs_for(documents, config))
    with atomic(model) as tmp:
        fitted.save_model(str(tmp))
        _require_whole(tmp, fitted)


def _fit(training_file: Path, config: FastTextConfig, epochs: int) -> Any:
    try:
        return fasttext.train_supervised(
            input=str(training_file),
            dim=config.dim,
            lr=config.lr,
            wordNgrams=config.word_ngrams,
            minCount=config.min_count,
            epoch=epochs,
            bucket=config.bucket,
            thread=config.thread,
            verbose=0,
        )
    except (RuntimeError, ValueError) as error:  # NaN, or no word as often as min_count
        raise UserError(
            f"classifier: fastText cannot train ({error}): lower lr or min_count, or give more text"
        ) from None


def _require_whole(file: Path, fitted: Any) -> None:
    """OSError where the file does not end as the model does: fastText says nothing of a disk that is full."""
    end = fitted.get_output_matrix().astype("<f4").tobytes()
    with open(file, "rb") as content:
        content.seek(-min(len(end), file.stat().st_size), os.SEEK_END)
        if content.read() != end:
            raise OSError(errno.ENOSPC, "cut off while it was written: no space left on device", str(file))


def load(model: Path) -> Any:
    """The fastText model that train wrote."""
    return fasttext.load_model(str(model))


def accuracy(model: Any, training_file: Path) -> float:
    """The share of the file's texts that it gets right."""
    right = total = 0
    with open(training_file, encoding="utf-8", newline="\n") as lines:
        while batch := [line.rstrip("\n").partition(" ") for line in islice(lines, _BATCH)]:
            scores = predict(model, [text for _, _, text in batch])
            right += sum(
                (score > 0.5) == (label == MATH) for score, (label, _, _) in zip(scores, batch, strict=True)
            )
            total += len(batch)
    return right / total


def predict(model: Any, batch: Sequence[str]) -> list[float]:
    """P(mathematics) of each text, to seven digits (rank.py counts on them); 0 for a text without a token that
    the model can use."""
    all_labels, all_probabilities = model.predict(list(batch), k=2)
    return [
        _p_math(labels, probabilities) if text and len(labels) == 2 else 0.0
        for text, labels, probabilities in zip(batch, all_labels, all_probabilities, strict=True)
    ]


def _p_math(labels: Sequence[str], probabilities: Sequence[float]) -> float:
    """P(mathematics) from both labels, the likelier one first.

    The smaller probability is the exact one in float32: taken from one, it keeps pages near 1 apart.
    """
    smaller = max(0.0, float(probabilities[1]) - _FASTTEXT_ADDS)
    return round(1 - smaller if labels[0] == MATH else smaller, 7)
