"""The tokenizer of a training run: its model's own, or one trained on the first texts. Not a script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from dsm_jax.tokenizer import train_sentencepiece
from dsm_jax.train.start import Start


def tokenizer_file(
    out: Path, start: Start, texts: Callable[[], Iterable[str]], symbols: Sequence[str] = ()
) -> Path:
    """The folder of the model's own, or the file of the run's. texts: to train it on, asked for where it is not there."""
    if (own := start.tokenizer()) is not None:
        return own
    path = out / "tokenizer" / "tokenizer.model"
    if not path.exists():
        train_sentencepiece(texts(), path, vocab_size=start.config.vocab_size, symbols=symbols)
    return path
