"""Tokenising supervised finetuning files once, into packed windows in a folder, as tokenize.py does texts.

A share of the examples is held out by a hash of the question, so that all solutions of one problem stay on one side. What
does not fit into a window is dropped whole and counted: half a solution teaches stopping halfway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from dsm_jax.chat import ChatTemplate
from dsm_jax.data.corpus import StoredWindows
from dsm_jax.data.instructions import find_sft_parts, read_sft_part
from dsm_jax.data.sft import KINDS, Record, encode_record
from dsm_jax.data.tokenize import HELD_OUT, Form, Job, held_out_by_hash, tokenize_source
from dsm_jax.data.windows import Example, Window, pack_fitting
from dsm_jax.tokenizer import Tokenizer

TOO_LONG = "too_long"
SKIPPED = "skipped: "  # and the reason


def tokenize_sft(
    paths: Sequence[Path],
    tokenizer: Path,
    window: int,
    out: Path,
    *,
    held_out: int = 0,
    workers: int = 0,
    only_correct: bool = False,
    chat_template: bool = False,
) -> StoredWindows:
    """The windows of SFT files, in the folder `out`; those held out in out / HELD_OUT.

    held_out: of 10,000 questions. The manifest counts examples by kind (sft.KINDS), targets (tokens), too_long (than a
    window) and what the readers skipped. chat_template: the one in the tokenizer's folder, not DeepSeekMath's. Resumes, and
    takes workers, as tokenize_source does.
    """
    name = f"sft 2{' only correct' if only_correct else ''}"
    if chat_template:
        name += f" {ChatTemplate(tokenizer).fingerprint}"
    counts = ("examples", *KINDS, "targets", TOO_LONG)
    form = Form(
        name,
        find_sft_parts,
        partial(_windows, only_correct, chat_template),
        counts,
        f"no example of up to {window} tokens (--training.window)",
    )
    return tokenize_source(paths, tokenizer, window, out, held_out=held_out, workers=workers, form=form)


def _windows(
    only_correct: bool,
    chat_template: bool,
    job: Job,
    split: str,
    tokenizer: Tokenizer,
    counts: Counter[str],
) -> Iterator[Window]:
    template = ChatTemplate(job.tokenizer) if chat_template else None
    return pack_fitting(_examples(only_correct, template, job, split, tokenizer, counts), job.window)


def _examples(
    only_correct: bool,
    template: ChatTemplate | None,
    job: Job,
    split: str,
    tokenizer: Tokenizer,
    counts: Counter[str],
) -> Iterator[Example]:
    for record in read_sft_part(job.part, only_correct=only_correct):
        if not isinstance(record, Record):
            if not split:  # once, though both splits read it
                counts[SKIPPED + record.reason] += 1
            continue
        if (split == HELD_OUT) != held_out_by_hash(record.question.encode("utf-8", "replace"), job.held_out):
            continue
        example = encode_record(record, tokenizer, template)
        if len(example.ids) > job.window:
            counts[TOO_LONG] += 1
            continue
        _count(record, example, counts)
        yield example


def _count(record: Record, example: Example, counts: Counter[str]) -> None:
    counts["examples"] += 1
    counts["tokens"] += len(example.ids)
    counts[record.kind] += 1
    counts["targets"] += sum(example.is_target)  # type: ignore[arg-type]
