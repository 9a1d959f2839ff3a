"""What the annotation page shows and changes: a run's candidates under the decisions of its annotators.

Everything is read again once it has changed on the disk: another annotator's decisions, or a new iteration.

Left out on purpose: HTTP (server.py).
"""

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dsm_jax.errors import UserError
from dsm_jax.mine.annotate.annotations import (
    FILE,
    Annotations,
    Decision,
    append_decision,
    now,
    read_annotations,
)
from dsm_jax.mine.annotate.candidates import load_candidates, newest_iteration
from dsm_jax.mine.annotate.prefixes import as_tree


class AnnotationState:
    """A run's candidates and decisions; `by` decides. Its methods may be called from several threads."""

    def __init__(self, run: Path, by: str):
        self.run, self.by, self.file = Path(run), by, Path(run) / FILE
        self._lock = threading.RLock()
        self._read: tuple[int, int] | None = None
        self._candidates = load_candidates(self.run)
        self._annotations, self._decided = Annotations({}), dict[str, list[str]]()
        self._refresh()

    def overview(self) -> dict[str, Any]:
        """The run, its iteration, and a row for each domain, most gain first: what the list needs."""
        with self._lock:
            self._refresh()
            domains = self._candidates.domains.values()
            return {
                "run": str(self.run),
                "iteration": self._candidates.iteration,
                "by": self.by,
                "domains": [{**asdict(one), **self._marks(one.domain)} for one in domains],
            }

    def domain(self, name: str) -> dict[str, Any]:
        """The domain's prefixes in the order of their tree, with counts, verdict and votes."""
        with self._lock:
            self._refresh()
            rows = self._prefixes(name)
            tree = as_tree({prefix: row["pages"] or 0 for prefix, row in rows.items()})
            return {
                "domain": name,
                "marks": self._marks(name),
                "prefixes": [
                    {**rows[prefix], "depth": depth, **self._votes(prefix)} for prefix, depth in tree
                ],
            }

    def samples(self, name: str, prefix: str) -> dict[str, Any]:
        """The domain's sampled pages under the prefix, not collected ones first, and how many it has."""
        with self._lock:
            self._require(name)
            candidates = self._candidates
        samples = sorted(candidates.samples_under(name, prefix), key=lambda row: row["kept"])
        return {"samples": samples, "sampled": len(candidates.samples[name])}

    def decide(self, name: str, prefix: str, accept: bool | None) -> dict[str, Any]:
        """Saves a decision, or with None withdraws one, and says what holds then.

        Raises UserError where the prefix is not one that the page shows; OSError where it cannot be saved.
        """
        with self._lock:
            self._refresh()
            if prefix not in self._prefixes(name):
                raise UserError(f"{prefix} is no prefix of {name}: reload the page")
            standing = {vote.by: vote.accept for vote in self._annotations.votes.get(prefix, ())}
            if standing.get(self.by) is not accept:  # the page sends a decision again when no answer came
                append_decision(self.file, Decision(prefix, accept, self.by, now()))
                self._refresh()
            return {"prefix": prefix, **self._votes(prefix), "marks": self._marks(name)}

    def _refresh(self) -> None:
        newest = newest_iteration(self.run)
        if newest != self._candidates.iteration:
            self._candidates, self._read = load_candidates(self.run), None
        stamp = (self.file.stat().st_mtime_ns, self.file.stat().st_size) if self.file.exists() else (0, 0)
        if stamp == self._read:
            return
        self._annotations = read_annotations([self.file] if self.file.exists() else [])
        decided: defaultdict[str, list[str]] = defaultdict(list)
        for prefix in self._annotations.prefixes:
            if (name := self._candidates.domain_of(prefix)) is not None:
                decided[name].append(prefix)
        self._decided, self._read = dict(decided), stamp

    def _require(self, name: str) -> None:
        if name not in self._candidates.domains:
            raise UserError(f"{name} is no discovered domain of this iteration: reload the page")

    def _prefixes(self, name: str) -> dict[str, dict[str, Any]]:
        """The domain's rows by prefix; a decided prefix that was not counted has its row too."""
        self._require(name)
        unknown = {"pages": None, "collected": None, "mean_score": None}
        rows = {prefix: {"prefix": prefix, **unknown} for prefix in self._decided.get(name, ())}
        return rows | {row["prefix"]: row for row in self._candidates.prefixes[name]}

    def _votes(self, prefix: str) -> dict[str, Any]:
        votes = self._annotations.votes.get(prefix, ())
        return {
            "verdict": self._annotations.prefixes.get(prefix),
            "votes": [{"by": vote.by, "accept": vote.accept, "at": vote.at} for vote in votes],
        }

    def _marks(self, name: str) -> Mapping[str, int]:
        """How many of the domain's prefixes are accepted, rejected and in conflict."""
        verdicts = [self._annotations.prefixes[prefix] for prefix in self._decided.get(name, ())]
        return {
            "accepted": verdicts.count(True),
            "rejected": verdicts.count(False),
            "conflicts": verdicts.count(None),
        }
