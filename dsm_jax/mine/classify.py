"""fastText: train on seed against negatives, score pages.

Text for fastText: TeX commands and words as separate tokens (`x^2\\frac` is none), digits and other marks
dropped, lower-cased, CJK one character a token. Training is reproducible with one thread only; more threads
are for size.

Left out on purpose: subword features, quantisation, hyper-parameter search, calibration.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import fasttext

from dsm_jax.errors import UserError
from dsm_jax.run import atomic, write_text

CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TOKEN = re.compile(rf"\\[A-Za-z]+|[{CJK}]|[^\W\d_{CJK}]+")
_MATH, _OTHER = "__label__math", "__label__other"
_BATCH = 512
_CJK_CHARACTER = re.compile(f"[{CJK}]")


@dataclass(frozen=True)
class FastTextConfig:
    """fastText's own options; the defaults are the paper's (section 2.1), bucket and loss the library's."""

    dim: int = 256
    lr: float = 0.1
    word_ngrams: int = 3
    min_count: int = 3
    epoch: int = 3
    bucket: int = 2_000_000
    thread: int = 1

    def __post_init__(self) -> None:
        for name in ("dim", "word_ngrams", "min_count", "epoch", "bucket", "thread"):
            if not 1 <= getattr(self, name) < 2**31:
                option = f"--mine.classifier.{name.replace('_', '-')}"
                raise UserError(f"{option} {getattr(self, name)}: must be from 1 to 2147483647")
        if not 0 < self.lr < math.inf:
            raise UserError(f"--mine.classifier.lr {self.lr}: must be a positive number")


def fasttext_tokens(text: str) -> str:
    """The text as fastText sees it: one line, tokens joined by spaces."""
    return " ".join(_TOKEN.findall(text)).lower()


def count_words(text: str) -> int:
    """The tokens that budgets count: words between white space, and each CJK character."""
    characters = len(_CJK_CHARACTER.findall(text))
    return len(_CJK_CHARACTER.sub(" ", text).split() if characters else text.split()) + characters


def train(
    positives: Sequence[str], negatives: Sequence[str], folder: Path, config: FastTextConfig, rng: Random
) -> float:
    """Trains on tokenised texts, writes folder/classifier.bin, returns the accuracy on the training texts.

    Reproducible with config.thread == 1. Raises UserError for one-class training sets and diverged training.
    """
    if not any(positives) or not any(negatives):
        kind = "seed" if not any(positives) else "negative"
        raise UserError(
            f"classifier: no {kind} page with text to train on: give a larger seed or crawl, or keep less"
        )
    lines = [(_MATH, text) for text in positives] + [(_OTHER, text) for text in negatives]
    rng.shuffle(lines)
    training_file = folder / "train.txt"
    write_text(training_file, "".join(f"{label} {text}\n" for label, text in lines))
    model = _fit(training_file, config)
    with atomic(folder / "classifier.bin") as tmp:
        model.save_model(str(tmp))
    scores = predict(model, [text for _, text in lines])
    return sum(
        (score > 0.5) == (label == _MATH) for score, (label, _) in zip(scores, lines, strict=True)
    ) / len(lines)


def _fit(training_file: Path, config: FastTextConfig) -> Any:
    try:
        return fasttext.train_supervised(
            input=str(training_file),
            dim=config.dim,
            lr=config.lr,
            wordNgrams=config.word_ngrams,
            minCount=config.min_count,
            epoch=config.epoch,
            bucket=config.bucket,
            thread=config.thread,
            verbose=0,
        )
    except (RuntimeError, ValueError) as error:  # NaN, or no word as often as min_count
        raise UserError(
            f"classifier: fastText cannot train ({error}): lower lr or min_count, or give more text"
        ) from None


def load(folder: Path) -> Any:
    """The fastText model that train wrote."""
    return fasttext.load_model(str(folder / "classifier.bin"))


def score(model: Any, tokens: Iterable[str]) -> Iterator[float]:
    """P(mathematics) of each tokenised text, by batches; 0 for a text without a token."""
    texts = iter(tokens)
    while batch := list(islice(texts, _BATCH)):
        yield from predict(model, batch)


def predict(model: Any, batch: Sequence[str]) -> list[float]:
    """P(mathematics) of each text, rounded to 7 digits so that it reads back as written."""
    all_labels, all_probabilities = model.predict(list(batch), k=2)
    scores = []
    for text, labels, probabilities in zip(batch, all_labels, all_probabilities, strict=True):
        p_math = dict(zip(labels, probabilities, strict=True)).get(_MATH, 0.0)
        scores.append(round(min(float(p_math), 1.0), 7) if text else 0.0)
    return scores
