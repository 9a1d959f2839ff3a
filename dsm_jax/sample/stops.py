"""Where a row's text ends at a stop string, and what of it may be shown before that.

Stop strings are met in the text, wherever its tokens begin and end. What ends a row is the first token whose text
completes any of them; of several that it completes at once, the one that begins first counts, then the longer. (So a
stop string never waits for a longer one that began earlier and might still come.)
Left out on purpose: patterns; and stop tokens, which need no text.
"""

from __future__ import annotations

from collections.abc import Sequence

from dsm_jax.tokenizer import TextStream, Tokenizer


class StopText:
    """The text of one row as its tokens come, up to the first of its stop strings."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]):
        self.stopped = ""  # the stop string that was met
        self._stop = [text for text in dict.fromkeys(stop) if text]
        self._longest = max(map(len, self._stop), default=0)
        self._stream = TextStream(tokenizer)
        self._text = (
            ""  # of all tokens that were taken, also what of the last one stands behind the stop string
        )
        self._end = 0  # where the stop string begins that was met
        self._begin = 0  # from here on stop strings count
        self._taken = 0  # characters that `take` gave away

    @property
    def text(self) -> str:
        """All whole characters up to the stop string."""
        return self._text[: self._end] if self.stopped else self._text

    @property
    def with_stop(self) -> str:
        """The text up to and with the stop string: what a tool is called with."""
        return self.text + self.stopped

    def push(self, ids: Sequence[int]) -> int | None:
        """Takes tokens, up to and with the one that completes a stop string.

        Returns how many these are, None where no stop string is met; behind one nothing is taken.
        """
        if self.stopped:
            return 0
        stream, length = self._stream.copy(), len(self._text)
        if not self._take_in(self._stream.push(ids)):
            return None
        self._stream, self._text, self.stopped = stream, self._text[:length], ""
        for count, token in enumerate(ids, start=1):
            if self._take_in(self._stream.push([token])):
                return count
        return None  # a tokenizer that writes the same tokens otherwise one by one

    def take(self) -> str:
        """The text that is certain and was not taken before.

        Whole characters, without what may yet become a stop string, and nothing from one that was met on.
        """
        return self._give(len(self.text) - (0 if self.stopped else self._possible_stop()))

    def finish(self) -> str:
        """The rest of the text, where the row has ended."""
        if not self.stopped:
            self._take_in(self._stream.finish())
        return self._give(len(self.text))

    def go_on(self, inserted: Sequence[int]) -> None:
        """Goes on behind the stop string that was met: it and these tokens are text now, in which no stop is looked for."""
        self.stopped = ""
        self._text += self._stream.push(inserted)
        self._begin = len(self._text)

    def _take_in(self, new: str) -> bool:
        """Adds text; whether it completes a stop string."""
        start = max(self._begin, len(self._text) - self._longest + 1)
        self._text += new
        found = [(self._text.find(stop, start), -len(stop), stop) for stop in self._stop]
        self._end, _, self.stopped = min((one for one in found if one[0] >= 0), default=(0, 0, ""))
        return bool(self.stopped)

    def _possible_stop(self) -> int:
        """Length of the text's end that may be the beginning of a stop string."""
        tail = self._text[max(self._begin, len(self._text) - self._longest + 1) :]
        ends = (tail[at:] for at in range(len(tail)))
        return next((len(end) for end in ends if any(stop.startswith(end) for stop in self._stop)), 0)

    def _give(self, end: int) -> str:
        given = self._text[self._taken : end]
        self._taken += len(given)
        return given
