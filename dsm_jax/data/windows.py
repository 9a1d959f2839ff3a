"""Packing token documents into fixed windows, the one form in which every trainer gets its text.

A window of T tokens is a dict of numpy arrays of shape [T]:
    tokens       int32    bos + text + eos of one or more documents, then zeros
    segment_ids  int32    1, 2, .. for the documents in the window, 0 for padding
    loss_mask    float32  1 where the token at t is a target: the model predicts it from the tokens before it
                          in its segment. A segment's first token is never one: nothing stands before it
Examples of another kind than Example bring other arrays in loss_mask's place (Packable).
Attention stays inside a segment and positions restart with it: a packed document trains as it would alone.
Left out on purpose: positions (the model derives them), storage (corpus.py), mixing (mixture.py).
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Window = dict[str, np.ndarray]
Ids = Sequence[int] | np.ndarray  # token ids of one document
OPEN_WINDOWS = 64  # windows that first-fit looks at; it bounds the time and memory of packing


class Packable(Protocol):
    """A document that stays whole."""

    @property
    def ids(self) -> Ids: ...

    def arrays(self) -> Window:
        """fp32 [len(ids)] each, by name: what a window holds of it beside the tokens."""
        ...


@dataclass(frozen=True)
class Example:
    """A document that stays whole: its token ids, and which of them are targets (one flag per id, or one for all)."""

    ids: Ids
    is_target: Sequence[bool] | bool

    def arrays(self) -> Window:
        mask = np.zeros(len(self.ids), np.float32)
        mask[:] = self.is_target
        mask[:1] = 0.0
        return {"loss_mask": mask}


@dataclass(frozen=True)
class Packed:
    """Windows, and what did not fit into one."""

    windows: list[Window]
    dropped: int  # examples longer than a window


def pack_documents(documents: Iterable[Ids], length: int) -> Iterator[Window]:
    """Lays documents (ids with bos and eos) end to end and cuts the line every `length` tokens; none is lost.

    A document that crosses a cut goes on in the next window as its own segment; the last window is padded.
    """
    segments: list[Ids] = []
    room = length
    for document in documents:
        at = 0
        while at < len(document):
            segments.append(document[at : at + room])
            at += len(segments[-1])
            room -= len(segments[-1])
            if room == 0:
                yield _window([Example(ids, True) for ids in segments], length)
                segments, room = [], length
    if segments:
        yield _window([Example(ids, True) for ids in segments], length)


def pack_examples(examples: Iterable[Packable], length: int) -> Packed:
    """The windows of `pack_fitting`; an example longer than `length` is dropped and counted."""
    dropped = 0

    def fitting() -> Iterator[Packable]:
        nonlocal dropped
        for example in examples:
            if len(example.ids) <= length:
                yield example
            else:
                dropped += 1

    windows = list(pack_fitting(fitting(), length))
    return Packed(windows, dropped)


def pack_fitting(examples: Iterable[Packable], length: int) -> Iterator[Window]:
    """Puts each example, in order, into the first open window with room for it (first-fit over 64 windows).

    No example may be longer than `length`. Windows come in the order in which they opened, as soon as they close.
    """
    windows: deque[list[Packable]] = deque()
    room: deque[int] = deque()
    for example in examples:
        size = len(example.ids)
        at = next((i for i, free in enumerate(room) if free >= size), len(windows))
        if at == len(windows):
            if len(windows) == OPEN_WINDOWS:
                room.popleft()
                yield _window(windows.popleft(), length)
                at -= 1
            windows.append([])
            room.append(length)
        windows[at].append(example)
        room[at] -= size
    for window in windows:
        yield _window(window, length)


def _window(segments: Sequence[Packable], length: int) -> Window:
    window = {"tokens": np.zeros(length, np.int32), "segment_ids": np.zeros(length, np.int32)}
    at = 0
    for number, segment in enumerate(segments, start=1):
        end = at + len(segment.ids)
        window["tokens"][at:end] = segment.ids
        window["segment_ids"][at:end] = number
        for name, array in segment.arrays().items():
            window.setdefault(name, np.zeros(length, np.float32))[at:end] = array
        at = end
    return window
