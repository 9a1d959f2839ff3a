"""How fast a source is tokenised: text files to windows on disk, beside the tokenizer library's own encoding of the texts.

    python experiments/bench_tokenize.py --json FILE
    python experiments/bench_tokenize.py --json FILE --peer tokenizers

tokenize_source reads a JSONL file, encodes, packs and writes ArrayRecord; the peer is the library inside it, sentencepiece
or Hugging Face's tokenizers, given the list of the same texts in memory, and nothing else to do. Both take turns in this
process on one core, the library with one thread; CPU time, medians over the rounds. The texts are worked problems of the
generator and code of an installed package. Left out on purpose: several workers, which share nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import sentencepiece
import sympy
import tokenizers
from rich.console import Console

from dsm_jax.cli import run_script
from dsm_jax.data.problems import ProblemSet
from dsm_jax.data.texts import find_parts, read_part
from dsm_jax.data.tokenize import tokenize_source
from dsm_jax.errors import UserError
from dsm_jax.run import require_writable, write_json
from dsm_jax.tokenizer import train_sentencepiece

TRAINING = 10  # of so many texts one is the tokenizer's
SPECIAL = ("<pad>", "<s>", "</s>")


@dataclass(frozen=True)
class Bench:
    """Options of the benchmark."""

    preset: str
    problems: int = 3_000  # of the generator's, beside the code
    code: tuple[str, ...] = ("core", "functions")  # packages of sympy
    vocab_size: int = 4_096  # of the tokenizer
    window: int = 1_024  # tokens
    rounds: int = 9  # each measures both once
    peer: Literal["sentencepiece", "tokenizers"] = "sentencepiece"  # the library
    json: Path | None = None  # file for the numbers

    def __post_init__(self) -> None:
        for name in ("problems", "rounds"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 1")
        if self.window < 2:
            raise UserError(f"--window is {self.window}; it must be at least 2")
        if self.json:
            require_writable(self.json, "--json")


def main(config: Bench) -> None:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    os.environ |= {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    texts = all_texts(config)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, out = folder / "texts.jsonl", folder / "windows"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        tokenizer, encode = PEERS[config.peer](config, texts[::TRAINING], folder)

        def ours() -> int:
            shutil.rmtree(out, ignore_errors=True)
            return tokenize_source([source], tokenizer, config.window, out).manifest["tokens"]

        found, tokens = [], ours()
        for _ in range(config.rounds):
            found.append((cpu_seconds(ours), cpu_seconds(lambda: encode(texts))))
    result = summary(texts, tokens, found)
    print_summary(config, result)
    if config.json:
        write_json(config.json, result | {"peer": config.peer, "rounds": config.rounds})


def all_texts(config: Bench) -> list[str]:
    problems, package = ProblemSet("train", seed=0), Path(sympy.__file__).parent
    worked = [f"{one.question}\n{one.solution}" for one in map(problems.__getitem__, range(config.problems))]
    return worked + [
        text for part in find_parts([package / name for name in config.code]) for text in read_part(part)
    ]


def with_sentencepiece(config: Bench, texts: list[str], folder: Path) -> tuple[Path, Callable[..., Any]]:
    """A tokenizer's file, and the library's encoding of a list of texts."""
    path = folder / "tokenizer.model"
    train_sentencepiece(texts, path, vocab_size=config.vocab_size)
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return path, lambda texts: model.encode(texts, num_threads=1)


def with_tokenizers(config: Bench, texts: list[str], folder: Path) -> tuple[Path, Callable[..., Any]]:
    """As with_sentencepiece: a BPE over bytes."""
    path = folder / "tokenizer.json"
    model = tokenizers.ByteLevelBPETokenizer()
    model.train_from_iterator(
        texts, vocab_size=config.vocab_size, special_tokens=list(SPECIAL), show_progress=False
    )
    model.save(str(path))
    library = tokenizers.Tokenizer.from_file(str(path))
    return path, lambda texts: [one.ids for one in library.encode_batch(texts, add_special_tokens=False)]


PEERS = {"sentencepiece": with_sentencepiece, "tokenizers": with_tokenizers}


def cpu_seconds(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def summary(texts: list[str], tokens: int, found: list[tuple[float, float]]) -> dict[str, float]:
    ours, library = (median(one) for one in zip(*found, strict=True))
    size = sum(len(text.encode()) for text in texts)
    return {
        "text_bytes": size,
        "tokens": tokens,
        "cpu_seconds": ours,
        "library_cpu_seconds": library,
        "bytes_per_s": size / ours,
        "tokens_per_s": tokens / ours,
        "library_bytes_per_s": size / library,
        "share_of_library_rate": median(theirs / own for own, theirs in found),
    }


def print_summary(config: Bench, result: dict[str, float]) -> None:
    Console().print(
        f"{result['text_bytes'] / 1e6:.1f} MB, {result['tokens']:,} tokens: files to windows "
        f"{result['bytes_per_s'] / 1e6:.2f} MB/s, {config.peer} alone {result['library_bytes_per_s'] / 1e6:.2f} MB/s: "
        f"{result['share_of_library_rate']:.1%} of its rate",
        highlight=False,
        soft_wrap=True,
    )


PRESETS = {
    "one_core": Bench("one_core"),
    "smoke": Bench("smoke", code=("strategies",), problems=200, vocab_size=400, rounds=1),
}

if __name__ == "__main__":
    run_script(main, PRESETS)
