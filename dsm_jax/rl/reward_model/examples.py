"""Solutions as the tokens that a reward model reads, the places of its scores among them, and windows to train on.

It reads bos, the prompt, the completion and the token that ended it; a score stands at the last token of each step, that of
the last step at the token that ended the completion. With a step tag the text with the tags is encoded as one, as the
released reference does, and a score stands at the last token of each tag. An outcome reward model has one score, the last.
Left out on purpose: weights of classes; solutions that are cut to fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dsm_jax.data.tokenize import held_out_by_hash
from dsm_jax.data.windows import Window, pack_fitting
from dsm_jax.errors import UserError
from dsm_jax.rl.reward_model.form import Form
from dsm_jax.rl.reward_model.loss import LABELS, MASK
from dsm_jax.rl.steps.labelled import Labelled
from dsm_jax.rl.steps.token_ends import encoded_ends
from dsm_jax.tokenizer import BROKEN, Tokenizer


class Read(NamedTuple):
    """A solution as the model reads it."""

    ids: list[int]
    places: np.ndarray  # int32 [K], of the tokens at which the scores stand


@dataclass(frozen=True)
class StepExample:
    """A labelled solution of K scores; it stays whole in a window."""

    ids: np.ndarray  # int32
    places: np.ndarray  # int32 [K]
    labels: np.ndarray  # fp32 [K], 0 to 1

    def arrays(self) -> Window:
        arrays = {name: np.zeros(len(self.ids), np.float32) for name in (LABELS, MASK)}
        arrays[LABELS][self.places], arrays[MASK][self.places] = self.labels, 1.0
        return arrays


@dataclass(frozen=True)
class Examples:
    """Windows to train on; held-out solutions, and their windows; how many there are of what."""

    train: list[Window]
    held_out: list[Labelled]
    held_out_windows: list[Window]
    counts: dict[str, int]  # solutions, scores, tokens; held_out_solutions; too_long

    def identity(self) -> str:
        """What tells these windows from others."""
        digest = hashlib.sha256()
        for window in (*self.train, *self.held_out_windows):
            for array in window.values():
                digest.update(array.tobytes())
        return digest.hexdigest()


def read_text(
    form: Form, tokenizer: Tokenizer, prompt: str, completion: str, ends: Sequence[int], *, ended: bool = True
) -> Read:
    """A solution whose steps end at these offsets [K] of the completion. ended: False where it was cut."""
    if form.kind == "outcome":
        ends = [len(completion.rstrip())]
    if form.step_tag is not None:
        return _read_tagged(form.step_tag, tokenizer, prompt, completion, ends)
    own, places = encoded_ends(completion, ends, tokenizer)
    if ended:
        own = [*own, tokenizer.eos_id]
        places[-1:] = len(own) - 1
    return _joined([tokenizer.bos_id, *tokenizer.encode(prompt)], own, places)


def read_tokens(
    form: Form, tokenizer: Tokenizer, prompt: str, tokens: Sequence[int], places: Sequence[int]
) -> Read:
    """A completion of these tokens, the one that ended it among them, whose steps end with these [K] (completion_ends)."""
    if form.kind == "outcome":
        places = [len(tokens) - 1]
    if form.step_tag is not None:
        ends = [len(tokenizer.decode(tokens[: place + 1]).rstrip(BROKEN).rstrip()) for place in places]
        return _read_tagged(form.step_tag, tokenizer, prompt, tokenizer.decode(tokens), ends)
    return _joined([tokenizer.bos_id, *tokenizer.encode(prompt)], tokens, places)


def encode(solution: Labelled, form: Form, tokenizer: Tokenizer) -> StepExample:
    """The example of a labelled solution; of an outcome reward model its label is the last step's."""
    if not solution.ends or len(solution.ends) != len(solution.labels):
        raise UserError(
            f"a solution with {len(solution.labels)} labels and {len(solution.ends)} steps "
            f"({solution.completion!r:.60}): give a label for each step"
        )
    ids, places = read_text(form, tokenizer, solution.prompt, solution.completion, solution.ends)
    labels = solution.labels if form.kind == "process" else solution.labels[-1:]
    return StepExample(np.array(ids, np.int32), places, np.array(labels, np.float32))


def make_examples(
    solutions: Iterable[Labelled],
    form: Form,
    tokenizer: Tokenizer,
    length: int,
    *,
    held_out: int = 0,
    most_held_out: int = 1_000,
) -> Examples:
    """Windows of `length` tokens; a longer solution is dropped and counted. held_out: questions of 10,000, by a hash, whose
    solutions are not trained on; the first most_held_out of these are kept.

    Raises UserError where nothing is left to train on, or all that is has one label: nothing could be told apart.
    """
    train: list[StepExample] = []
    held: list[tuple[Labelled, StepExample]] = []
    too_long = 0
    for solution in solutions:
        example = encode(solution, form, tokenizer)
        if len(example.ids) > length:
            too_long += 1
        elif not held_out_by_hash(_question(solution), held_out):
            train.append(example)
        elif len(held) < most_held_out:
            held.append((solution, example))
    counts = {
        "solutions": len(train),
        "scores": sum(len(one.places) for one in train),
        "tokens": sum(len(one.ids) for one in train),
        "held_out_solutions": len(held),
        "too_long": too_long,
    }
    _require_two_classes(train, counts, length)
    windows, held_windows = (list(pack_fitting(part, length)) for part in (train, [one for _, one in held]))
    return Examples(windows, [solution for solution, _ in held], held_windows, counts)


def _question(solution: Labelled) -> bytes:
    return (solution.question or solution.prompt).encode("utf-8", "replace")


def _read_tagged(tag: str, tokenizer: Tokenizer, prompt: str, completion: str, ends: Sequence[int]) -> Read:
    text, places = prompt, []
    for start, end in zip((0, *ends), ends, strict=False):
        text += completion[start:end] + tag
        places.append(len(text))
    return _joined([tokenizer.bos_id], *encoded_ends(text, places, tokenizer))


def _joined(before: list[int], own: Sequence[int], places: Sequence[int] | np.ndarray) -> Read:
    return Read([*before, *map(int, own)], np.array(places, np.int32) + np.int32(len(before)))


def _require_two_classes(examples: Sequence[StepExample], counts: dict[str, int], length: int) -> None:
    if not examples:
        raise UserError(
            f"no labelled solution of up to {length} tokens to train on ({counts['too_long']} are longer, "
            f"{counts['held_out_solutions']} held out): give others, or a longer window"
        )
    labels = {float(label) for one in examples for label in one.labels}
    if len(labels) == 1:
        raise UserError(
            f"all {counts['scores']:,} labels are {labels.pop():g}: a reward model learns nothing from one class; give "
            "solutions that are right and wrong"
        )
