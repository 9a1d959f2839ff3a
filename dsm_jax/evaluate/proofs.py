"""miniF2F in Isabelle: is what a model wrote behind a formal statement a proof of it?

A sketch's every `sledgehammer` is a hole. Each is filled by the first of HEURISTICS that closes it, else by what
Sledgehammer finds (Jiang et al., 2023; DeepSeekMath, section 2.3). Holes do not depend on each other, so they are tried
side by side, the other ones left open; then the whole is checked with none open, and Isabelle is asked what it rests on.
The statement is the benchmark's, whatever the model repeats of it. What could pass without a proof (`sorry`, axioms, ML) is
refused before a server sees it. Without a verdict of a server a proof is "unchecked".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple
from uuid import uuid4

from dsm_jax.data.benchmarks import Problem
from dsm_jax.evaluate.isabelle import Checked, IsabelleClient, IsabelleError
from dsm_jax.evaluate.prompts.formal import STOP

Judgement = Literal["proved", "failed", "unchecked"]
# Tried in this order: the released evaluation's.
HEURISTICS = (
    "auto", "simp", "blast", "fastforce", "force", "eval", "presburger", "sos", "arith", "linarith",
    "(auto simp: field_simps)",
)  # fmt: skip
HOLE = "sledgehammer"
MOST_CHARACTERS = 50_000  # of a proof
# What a proof begins with; else the statement might go on (`if "False"`).
STARTS = frozenset((
    "proof", "by", "using", "unfolding", "apply", "subgoal", "supply", "including", "sledgehammer",
))  # fmt: skip
# End a proof without one, add axioms, turn checks off, run ML (which can do all of that), read or write files.
CHEATS = frozenset((
    "sorry", "oops", "axiomatization", "axioms", "oracle", "quick_and_dirty", "skip_proofs",
    "smt_oracle", "tactic", "raw_tactic", "ML", "ML_val", "ML_command", "ML_prf", "ML_file",
    "ML_export", "SML_file", "SML_import", "SML_export", "setup", "local_setup", "method_setup",
    "attribute_setup", "simproc_setup", "declaration", "syntax_declaration", "parse_translation",
    "print_translation", "parse_ast_translation", "print_ast_translation", "typed_print_translation",
    "ML_file_debug", "ML_file_no_debug", "SML_file_debug", "SML_file_no_debug",
    "compile_generated_files", "export_generated_files", "generate_file", "external_file",
    "bibtex_file", "ROOTS_file", "export_code", "code_reflect", "code_printing",
))  # fmt: skip
# Begin something that is no part of a proof. The theorem's own name could be given away by one.
OTHERS = frozenset((
    "theory", "begin", "end", "theorem", "lemma", "corollary", "proposition", "schematic_goal",
    "lemmas", "declare", "context", "notepad", "locale", "definition", "abbreviation", "fun",
    "function", "primrec", "inductive", "datatype", "typedef", "typedecl", "record", "consts",
    "overloading", "instance", "instantiation", "interpretation", "global_interpretation", "notation",
    "no_notation", "syntax", "no_syntax", "translations", "method", "named_theorems", "bundle",
    "unbundle", "hide_fact", "hide_const", "class", "subclass", "sublocale", "experiment",
    "lift_definition", "alias", "type_notation", "extract", "realizers",
))  # fmt: skip
# Antiquotations, whatever stands in the strange brackets; `\<proof>` is another `sorry`.
_MARKUP = re.compile(r"@\{|\\<\^(?!(?:b|e|i)?su[bp]>|bold>)|\\<proof>|⟨")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`', re.DOTALL)
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_']*(?:\.[A-Za-z][A-Za-z0-9_']*)*")
_SYMBOL = re.compile(
    r"\\<\^?\w+>|(?:\?'?|')[A-Za-z][A-Za-z0-9_']*|.", re.DOTALL
)  # ?x, ?'a and 'a have no dots
_NESTED = {
    "(*": re.compile(r"(?P<open>\(\*)|\*\)"),
    "\\<open>": re.compile(r"(?P<open>\\<open>|‹)|\\<close>|›"),
    "‹": re.compile(r"(?P<open>\\<open>|‹)|\\<close>|›"),
}
_NAME = re.compile(r"\s*theorem\s+([\w']+)\s*:")
_THEORY = re.compile(r"(\btheory\s+)[\w']+(\s+imports\b)")
_TRY = re.compile(
    r"Try this: ((?:using [^\n]*? )?(?:unfolding [^\n]*? )?by [^\n]*?)(?: \([\d.,> ]+m?s\))?\s*(?:\n|$)"
)


@dataclass(frozen=True)
class Limits:
    """Seconds, for each theory."""

    load_s: float = 900.0  # what a statement's theory imports, once
    heuristic_s: float = 10.0
    sledgehammer_s: float = 120.0
    whole_s: float = 120.0  # a proof as a whole; a sketch without its holes
    suggestions: int = 4  # of Sledgehammer's that are tried


def check_proof(
    client: IsabelleClient | None, problem: Problem, completion: str, limits: Limits = Limits()
) -> Judgement:
    """Whether the completion of a miniF2F problem's prompt proves its formal_statement.

    "unchecked": no client, or its server gives no verdict.
    """
    if client is None:
        return "unchecked"
    sketch = read_sketch(problem, completion)
    if sketch is None:
        return "failed"
    try:
        return "proved" if _Proof(client, problem, sketch, limits).holds() else "failed"
    except IsabelleError:
        return "unchecked"


def read_sketch(problem: Problem, completion: str) -> list[str] | None:
    """The proof in the completion, split where it says `sledgehammer`; None where it is refused.

    A completion may repeat the statement, but only as it is.
    """
    text = completion.partition(STOP[0])[0].strip()
    words = problem.extra["formal_statement"].split()
    repeated = re.match(r"\s+".join(map(re.escape, words)), text)
    if repeated:  # any other statement begins with a word of OTHERS
        text = text[repeated.end() :].strip()
    pieces = _accepted(text) or []
    first = next((piece.text for piece in pieces if piece.kind != "comment" and piece.text.strip()), "")
    if first not in STARTS:
        return None
    parts = [""]
    for piece in pieces:
        if piece == _Piece("word", HOLE):
            parts.append("")
        else:
            parts[-1] += piece.text
    return parts


def _accepted(text: str) -> list[_Piece] | None:
    """Its pieces; None where it is refused."""
    try:
        pieces = list(_pieces(text)) if len(text) <= MOST_CHARACTERS and not _CONTROL.search(text) else None
    except ValueError:
        return None
    return None if pieces is None or any(map(_is_refused, pieces)) else pieces


class _Piece(NamedTuple):
    kind: Literal["comment", "quoted", "word", "other"]
    text: str


def _pieces(text: str) -> Iterator[_Piece]:
    """Isabelle's outer syntax, as far as it says what is a word of its own. ValueError where something is left open."""
    at = 0
    while at < len(text):
        opening = next((one for one in _NESTED if text.startswith(one, at)), None)
        if opening:
            end = _closed(text, at, _NESTED[opening])
            yield _Piece("comment" if opening == "(*" else "quoted", text[at:end])
        elif text[at] in '"`':
            quoted = _QUOTED.match(text, at)
            if not quoted:
                raise ValueError("a quotation is not closed")
            end = quoted.end()
            yield _Piece("quoted", quoted[0])
        else:
            word = _WORD.match(text, at)  # a name with dots is one word, as in Isabelle
            piece = word or _SYMBOL.match(text, at)
            assert piece
            end = piece.end()
            yield _Piece("word" if word else "other", piece[0])
        at = end


def _closed(text: str, at: int, bounds: re.Pattern[str]) -> int:
    depth = 0
    for bound in bounds.finditer(text, at):
        depth += 1 if bound["open"] else -1
        if depth == 0:
            return bound.end()
    raise ValueError("a comment or cartouche is not closed")


def _is_refused(piece: _Piece) -> bool:
    """A name may be quoted too: `by ("tactic" ...)`."""
    if piece.kind == "comment":
        return False
    if piece.kind == "word":
        return piece.text in OTHERS or _last_name(piece.text) in CHEATS
    inside = re.sub(r"\\<(?:open|close)>", "", piece.text).strip('"`‹› \n\t')
    return _last_name(inside) in CHEATS or bool(_MARKUP.search(piece.text))


def _last_name(name: str) -> str:
    """`Pure.tactic` is `tactic`."""
    return name.rpartition(".")[2]


class _Proof:
    """A sketch of n holes and what fills them."""

    def __init__(self, client: IsabelleClient, problem: Problem, sketch: Sequence[str], limits: Limits):
        self.client, self.sketch, self.limits = client, sketch, limits
        self.statement, self.header = problem.extra["formal_statement"], problem.extra["header"]
        self.found: list[str] = [""] * (len(sketch) - 1)

    def holds(self) -> bool:
        self._load()
        n = len(self.found)
        if n and not self._check([self._open({})], self.limits.whole_s)[0].ok:
            return False  # whatever fills the holes
        for method in HEURISTICS:
            self._try({hole: f"by {method}" for hole in self._missing()})
        self._try_suggestions()
        return not self._missing() and self._is_whole()

    def _missing(self) -> list[int]:
        return [hole for hole, proof in enumerate(self.found) if not proof]

    def _try(self, proofs: dict[int, str]) -> None:
        """Keeps those that close their hole."""
        theories = [self._open({hole: proof}) for hole, proof in proofs.items()]
        checked = self._check(theories, self.limits.heuristic_s)
        for (hole, proof), result in zip(proofs.items(), checked, strict=True):
            if result.ok:
                self.found[hole] = proof

    def _try_suggestions(self) -> None:
        """What Sledgehammer says of the holes that no heuristic closed."""
        seconds = round(self.limits.sledgehammer_s)
        call = f"{HOLE} [timeout = {seconds}] sorry"
        holes = self._missing()
        said = self._check([self._open({hole: call}) for hole in holes], seconds + self.limits.heuristic_s)
        suggestions = {
            hole: [proof for proof in suggested(result.messages) if _accepted(proof)]
            for hole, result in zip(holes, said, strict=True)
        }
        for number in range(self.limits.suggestions):
            self._try(
                {
                    hole: suggestions[hole][number]
                    for hole in self._missing()
                    if number < len(suggestions[hole])
                }
            )

    def _is_whole(self) -> bool:
        """With nothing left open. Oracles are what a theorem rests on beside the kernel: an evaluation may (`eval` is one of
        the heuristics), a skipped proof may not."""
        name = _NAME.match(self.statement)
        assert name, self.statement
        asked = f"\nthm_oracles {name[1]}\n"
        (result,) = self._check([self._theory(self._filled(self.found) + asked)], self.limits.whole_s)
        oracles = [text for text in result.messages if "oracles" in text]
        return (
            result.ok
            and bool(oracles)
            and not any(oracle in text for text in oracles for oracle in ("skip_proof", "smt"))
        )

    def _open(self, proofs: dict[int, str]) -> Callable[[str], str]:
        """The sketch with these holes filled, the others left open."""
        filled = [proofs.get(hole, "sorry") for hole in range(len(self.found))]
        return self._theory(self._filled(filled), before="declare [[quick_and_dirty]]\n")

    def _filled(self, proofs: Sequence[str]) -> str:
        pairs = zip(self.sketch, [*(f" {proof} " for proof in proofs), ""], strict=True)
        return "".join(part + proof for part, proof in pairs)

    def _theory(self, proof: str, before: str = "") -> Callable[[str], str]:
        """Name -> the theory with that name."""
        return partial(_theory, self.header, f"{before}{self.statement}\n{proof}\n")

    def _load(self) -> None:
        """What the statement's theory imports, so that no limit of a proof goes into that."""
        (result,) = self._check([partial(_theory, self.header, "")], self.limits.load_s)
        if not result.ok:
            reason = "; ".join(result.errors) or "it takes too long"
            raise IsabelleError(f"isabelle server: the statement's theory cannot be loaded: {reason:.300}")

    def _check(self, theories: Sequence[Callable[[str], str]], limit_s: float) -> list[Checked]:
        named = {f"Dsm_{uuid4().hex}": theory for theory in theories}
        if not named:
            return []
        checked = self.client.check({name: theory(name) for name, theory in named.items()}, limit_s)
        return [checked[name] for name in named]


def _theory(header: str, body: str, name: str) -> str:
    begun, count = _THEORY.subn(rf"\g<1>{name}\g<2>", header, count=1)
    if not count:
        raise IsabelleError(f"a miniF2F header names no theory: {header!r:.200}")
    return f"{begun.rstrip()}\n\n{body}\nend\n"


def suggested(messages: Sequence[str]) -> list[str]:
    """The proofs that Sledgehammer's messages propose, each once."""
    return list(dict.fromkeys(match[1] for text in messages for match in _TRY.finditer(text)))
