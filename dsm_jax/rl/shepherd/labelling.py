"""Labels the steps of problems' solutions: draws completions in rounds until every step that is asked for is decided.

For hard labels a beginning's first hit ends its draws: rounds double what it has (1, 1, 2, 4, ..), so that a good step
costs one or two completions and a bad one all n in few calls of the sampler. As sample i of a beginning is the same in any
round, labels are exactly those of n completions each.
A right solution of a binary search needs no completion: none of its steps is bad.
Left out on purpose: files (run.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dsm_jax.rl.shepherd.completer import Ask, draw, room
from dsm_jax.rl.shepherd.config import Shepherd
from dsm_jax.rl.shepherd.counts import Counts
from dsm_jax.rl.shepherd.estimation import estimate, labels_before, search
from dsm_jax.rl.shepherd.pool import Pool
from dsm_jax.rl.shepherd.prefixes import Beginning, Steps, steps_in
from dsm_jax.rl.steps.labelled import Labelled
from dsm_jax.sample.sampler import Sampler


class StepLabels(NamedTuple):
    """A labelled solution, and the completions behind its labels."""

    labelled: Labelled
    draws: tuple[str, ...]  # [K] for each step its completions in order, "1" a hit; "" where none was needed


@dataclass
class Draws:
    """The completions of one beginning so far."""

    hits: list[bool] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)  # tokens


Key = tuple[int, Beginning]  # the number of the problem's pool, and a beginning of its solutions
Saved = dict[str, list]  # JSON of what was drawn so far


class Labelling:
    """The pools of one chunk: what of them is drawn, what is still to be, and the labels at the end."""

    def __init__(self, sampler: Sampler, pools: Sequence[Pool], config: Shepherd):
        self.sampler, self.pools, self.config = sampler, pools, config
        tokenizer = sampler.tokenizer
        self.prompts = [[tokenizer.bos_id, *tokenizer.encode(pool.prompt)] for pool in pools]
        cut = [steps_in(pool, tokenizer, config.splitting) for pool in pools]
        self.steps = [
            [one for one in of if one.length < room(sampler, prompt, config)]
            for of, prompt in zip(cut, self.prompts, strict=True)
        ]
        self.too_long = sum(map(len, cut)) - sum(map(len, self.steps))
        self.draws: dict[Key, Draws] = {
            (number, beginning): Draws() for number, one in self._solutions() for beginning in one.beginnings
        }
        self.prefill = self.rounds = self.cut = 0

    def run(self, on_round: Callable[[], None] = lambda: None) -> None:
        """Draws until all is decided. on_round is called behind each round."""
        while asked := self._asked():
            before = self.sampler.usage.prefill_tokens
            drawn = draw(self.sampler, list(asked.values()), self.config)
            for key, found in zip(asked, drawn, strict=True):
                self.draws[key].hits += found.hits
                self.draws[key].lengths += found.lengths
                self.cut += found.cut
            self.prefill += self.sampler.usage.prefill_tokens - before
            self.rounds += 1
            on_round()

    def labels(self) -> list[StepLabels]:
        """Of every solution, once run() has ended."""
        return [
            StepLabels(self._labelled(number, one), self._shown(number, one))
            for number, one in self._solutions()
        ]

    def counts(self) -> Counts:
        drawn = [one for one in self.draws.values() if one.hits]
        decoded, completions = sum(sum(one.lengths) for one in drawn), sum(len(one.hits) for one in drawn)
        usual = decoded / completions if completions else 0.0
        n, every = self.config.n, [(number, b) for number, one in self._solutions() for b in one.beginnings]
        lengths = (self.draws[key].lengths for key in every)
        means = (sum(of) / len(of) if of else usual for of in lengths)
        return Counts(
            problems=len(self.pools),
            solutions=sum(map(len, self.steps)),
            too_long=self.too_long,
            steps=sum(len(one.ends) for _, one in self._solutions()),
            prefixes=len(self.draws),
            completions=completions,
            hits=sum(sum(one.hits) for one in drawn),
            cut=self.cut,
            decoded=decoded,
            prefill=self.prefill,
            rounds=self.rounds,
            naive_completions=n * len(every),
            naive_decoded=round(n * sum(means)),
            naive_prefill=sum(len(self.prompts[number]) + len(beginning) - 1 for number, beginning in every),
        )

    def saved(self) -> Saved:
        """What was drawn so far, for another Labelling of the same pools."""
        return {
            "hits": [_word(one.hits) for one in self.draws.values()],
            "lengths": [one.lengths for one in self.draws.values()],
            "work": [self.prefill, self.rounds, self.cut],
        }

    def restore(self, saved: Saved) -> None:
        for one, hits, lengths in zip(self.draws.values(), saved["hits"], saved["lengths"], strict=True):
            one.hits, one.lengths = [letter == "1" for letter in hits], list(lengths)
        self.prefill, self.rounds, self.cut = saved["work"]

    def _solutions(self) -> Iterator[tuple[int, Steps]]:
        """(the number of its pool, a solution)"""
        return ((number, one) for number, of in enumerate(self.steps) for one in of)

    def _asked(self) -> dict[Key, Ask]:
        """The next round."""
        wanted = self._searched() if self.config.search == "binary" else self.draws
        return {key: self._ask(key) for key in wanted if not self._is_decided(self.draws[key])}

    def _searched(self) -> dict[Key, None]:
        """What the binary searches ask for."""
        found: dict[Key, None] = {}
        for number, one in self._solutions():
            if (
                not one.solution.right
                and (ask := search(self._judge(number, one), len(one.ends)).ask) is not None
            ):
                found[number, one.beginnings[ask]] = None
        return found

    def _judge(self, number: int, steps: Steps) -> Callable[[int], bool | None]:
        def judged(step: int) -> bool | None:
            drawn = self.draws[number, steps.beginnings[step]]
            return any(drawn.hits) if self._is_decided(drawn) else None

        return judged

    def _is_decided(self, drawn: Draws) -> bool:
        return len(drawn.hits) >= self.config.n or (self.config.stops_early and any(drawn.hits))

    def _ask(self, key: Key) -> Ask:
        number, beginning = key
        there, most = len(self.draws[key].hits), self.config.n
        more = min(max(1, there), most - there) if self.config.stops_early else most - there
        return Ask(self.prompts[number], beginning, self.pools[number].answer, there, more)

    def _labelled(self, number: int, steps: Steps) -> Labelled:
        pool = self.pools[number]
        return Labelled(
            pool.prompt, steps.solution.completion, steps.ends, self._values(number, steps),
            pool.question, pool.answer, pool.task,
        )  # fmt: skip

    def _values(self, number: int, steps: Steps) -> tuple[float, ...]:
        count = len(steps.ends)
        if self.config.search == "binary":
            found = None if steps.solution.right else search(self._judge(number, steps), count).first_bad
            return labels_before(count if found is None else found, count)
        drawn = [self.draws[number, beginning] for beginning in steps.beginnings]
        return *(estimate(one.hits, self.config.estimate) for one in drawn), float(steps.solution.right)

    def _shown(self, number: int, steps: Steps) -> tuple[str, ...]:
        return *(_word(self.draws[number, beginning].hits) for beginning in steps.beginnings), ""


def _word(hits: Sequence[bool]) -> str:
    return "".join("01"[hit] for hit in hits)


def label_pools(sampler: Sampler, pools: Sequence[Pool], config: Shepherd) -> tuple[list[StepLabels], Counts]:
    """The labelled solutions of these problems, in order, and what they took."""
    labelling = Labelling(sampler, pools, config)
    labelling.run()
    return labelling.labels(), labelling.counts()
