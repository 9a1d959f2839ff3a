"""What counts as a proof: holes and what fills them, refusals, and no verdict without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.data.benchmarks import Problem, read_benchmarks
from dsm_jax.evaluate.isabelle import IsabelleClient
from dsm_jax.evaluate.prompts.formal import read_formal_exemplars
from dsm_jax.evaluate.proofs import HEURISTICS, Limits, check_proof, read_sketch, suggested
from tests.evaluate.fake_isabelle import FakeProver, FakeServer

STATEMENT = 'theorem mathd_algebra_1:\n  fixes x :: real\n  assumes h0: "x = 1"\n  shows "x + 1 = 2"'
HEADER = "(*\n  Authors: x\n*)\n\ntheory mathd_algebra_1 imports\n  Complex_Main\nbegin\n\n"
PROBLEM = Problem("minif2f", "test-0", "What?", "", extra={"formal_statement": STATEMENT, "header": HEADER})
SKETCH = 'proof -\n  have c0: "first" sledgehammer\n  have "second" using c0 sledgehammer\n  show "third"\n    sledgehammer\nqed'
LIMITS = Limits(load_s=1, heuristic_s=1, sledgehammer_s=1, whole_s=1)


@pytest.fixture
def prover() -> FakeProver:
    return FakeProver(
        {
            "first": {"by auto", "by simp"},
            "second": {"by (auto simp: field_simps)"},
            "third": {"by (metis one_add_one)"},
        },
        {
            "third": "vampire: Try this: by (smt x) (3 ms)\ncvc4: Try this: by (metis one_add_one) (0.7 ms)\nQED"
        },
        {("third", "by blast"), ("second", "by force")},
    )


@pytest.fixture
def server(tmp_path: Path, prover: FakeProver) -> Iterator[FakeServer]:
    server = FakeServer(tmp_path, prover)
    yield server
    server.close()


@pytest.fixture
def client(server: FakeServer) -> Iterator[IsabelleClient]:
    with IsabelleClient(server.address, server.password, connect_s=2.0, grace_s=0.5) as client:
        yield client


def test_holes_are_filled_by_heuristics_then_by_sledgehammer(client, prover):
    assert check_proof(client, PROBLEM, f"{SKETCH}\n\n\n\nInformal:\nsorry", LIMITS) == "proved"
    whole = prover.seen[-1]
    assert "sorry" not in whole and "quick_and_dirty" not in whole and "sledgehammer" not in whole
    assert STATEMENT in whole and "thm_oracles mathd_algebra_1" in whole
    for proof in ("by auto", "by (auto simp: field_simps)", "by (metis one_add_one)"):
        assert proof in whole
    assert not any('"first" by simp' in text for text in prover.seen)  # auto comes first, and does it
    tried = [text for text in prover.seen if any(f'"third"\n     by {one} ' in text for one in HEURISTICS)]
    assert len(tried) == len(HEURISTICS)


def test_a_hole_that_nothing_fills_is_no_proof(client, prover):
    del prover.provable["second"]
    assert check_proof(client, PROBLEM, SKETCH, LIMITS) == "failed"
    prover.suggestions = {}
    assert check_proof(client, PROBLEM, SKETCH, LIMITS) == "failed"


def test_a_proof_without_holes_is_checked_at_once(client, server):
    assert check_proof(client, PROBLEM, 'proof - show "first" by auto qed', LIMITS) == "proved"
    assert len(server.named("use_theories")) == 2  # what it imports, and the proof
    assert check_proof(client, PROBLEM, 'proof - show "first" by blast qed', LIMITS) == "failed"


def test_a_broken_sketch_is_not_worked_on(client, server):
    assert check_proof(client, PROBLEM, SKETCH + " broken", LIMITS) == "failed"
    assert len(server.named("use_theories")) == 2


def test_a_proof_that_rests_on_a_skipped_one_fails(client, prover, monkeypatch):
    """Should one get by the reader, Isabelle says it."""
    monkeypatch.setattr("dsm_jax.evaluate.proofs.CHEATS", frozenset())
    text = 'using [[x]] (* declare [[quick_and_dirty]] *) proof - show "third" sorry qed'
    assert check_proof(client, PROBLEM, text, LIMITS) == "failed"
    assert "thm_oracles" in prover.seen[-1] and "sorry" in prover.seen[-1]


def test_a_server_that_does_not_name_oracles_proves_nothing(client, prover, monkeypatch):
    node = prover.node

    def silent(file: Path) -> dict:
        return node(file) | {"messages": []}

    monkeypatch.setattr(prover, "node", silent)
    assert check_proof(client, PROBLEM, 'proof - show "first" by auto qed', LIMITS) == "failed"


def test_what_sledgehammer_proposes_is_read_too(client, prover):
    prover.suggestions = {"third": "Try this: by (tactic \\<open>cheat\\<close>)"}
    prover.provable["third"] = {"by (tactic \\<open>cheat\\<close>)"}
    assert check_proof(client, PROBLEM, SKETCH, LIMITS) == "failed"


def test_without_a_verdict_it_is_unchecked(client, server):
    assert check_proof(None, PROBLEM, SKETCH) == "unchecked"
    server.on_use = lambda *_: True  # hangs up
    assert check_proof(client, PROBLEM, SKETCH, LIMITS) == "unchecked"
    server.on_use = lambda *_: False
    assert check_proof(client, PROBLEM, SKETCH, LIMITS) == "proved"
    header = HEADER.replace("Complex_Main", "broken")
    lacking = Problem("minif2f", "test-0", "What?", "", extra={**PROBLEM.extra, "header": header})
    assert check_proof(client, lacking, SKETCH, LIMITS) == "unchecked"


PROOF = 'proof - show "first" by auto qed'
REFUSED = [
    "",
    "sorry",
    "oops",
    "by auto sorry",
    "by auto sorry.",
    "by sorry",
    "by auto\nsorry(* *)",
    "proof - (* c *) sorry qed",
    "proof - show ?thesis \\<proof> qed",
    "proof - show ?thesis ⟨proof⟩ qed",
    'oops theorem mathd_algebra_1: "True" by simp',
    f'{PROOF} theorem other: "True" by simp',
    f"{PROOF} end theory x imports Main begin",
    "proof - show ?thesis.sorry qed",
    "proof - fix x :: 'a.ML_val \\<open>x\\<close> qed",
    "proof - fix x :: ?'a.sorry qed",
    "using [[quick_and_dirty]] by auto",
    "by (tactic \\<open>ALLGOALS (Skip_Proof.cheat_tac)\\<close>)",
    'by ("tactic" \\<open>x\\<close>)',
    "proof - ML_prf \\<open>OS.Process.system\\<close> qed",
    "by auto compile_generated_files _ where \\<open>x\\<close>",
    "proof - txt \\<open>@{ML x}\\<close> qed",
    "proof - txt \\<open>\\<^ML>\\<open>x\\<close>\\<close> qed",
    'if "False" using that by auto',
    'and "True" by auto',
    "for y by auto",
    '"(x = 2)" by auto',
    'by auto "',
    "by auto (* (* *)",
    "by auto \\<open> ‹ \\<close>",
    "by auto \\<close> \\<open>",
    "by auto\x05",
    "by auto\x00",
    "by auto \ud800",
    "by " + "(" * 100_000,
    f"{STATEMENT.replace('= 2', '= x')}\n{PROOF}",
    f"{STATEMENT.replace('x = 1', 'False')}\n{PROOF}",
    f"{STATEMENT.replace('mathd_algebra_1', 'mathd_algebra_2')}\n{PROOF}",
    f'{STATEMENT} if "False"\n{PROOF}',
    f'lemma x: "True"\n{PROOF}',
]


@pytest.mark.parametrize("completion", REFUSED)
def test_what_could_pass_without_a_proof_never_reaches_the_server(client, server, completion):
    assert read_sketch(PROBLEM, completion) is None
    assert check_proof(client, PROBLEM, completion, LIMITS) == "failed"
    assert not server.named("use_theories")


@pytest.mark.parametrize(
    ("completion", "parts"),
    [
        (PROOF, [PROOF]),
        (f"\n{STATEMENT}\n  {PROOF}", [PROOF]),
        (f"{STATEMENT.replace(chr(10), '  ')} {PROOF}", [PROOF]),
        ("sledgehammer", ["", ""]),
        ("proof - show a sledgehammer show b by auto qed", ["proof - show a ", " show b by auto qed"]),
        ("(* a lemma: sorry! *) by auto", ["(* a lemma: sorry! *) by auto"]),
        ('using "sledgehammer" by auto', ['using "sledgehammer" by auto']),
        ("proof - show ?thesis. qed", ["proof - show ?thesis. qed"]),
        ("by (auto simp: sledgehammer_def ML.x fun.induct)", ["by (auto simp: sledgehammer_def ML.x fun.induct)"]),
        ('using `x = "(*"` by auto', ['using `x = "(*"` by auto']),
        ('proof - have "((*) 2) x" by auto qed', ['proof - have "((*) 2) x" by auto qed']),
        ("using \\<open>x\\<^sub>1 = ‹y› \\<close> by auto", ["using \\<open>x\\<^sub>1 = ‹y› \\<close> by auto"]),
    ],
)  # fmt: skip
def test_proofs_are_read_as_they_stand(completion, parts):
    assert read_sketch(PROBLEM, completion) == parts


INSIDE = st.lists(st.sampled_from(["sorry", "oops", " ", "x", "sledgehammer", "ML"])).map(
    lambda ws: "x " + " ".join(ws)
)
COMMENT = st.recursive(
    INSIDE, lambda inner: st.tuples(inner, inner).map(lambda two: f"{two[0]} (* {two[1]} *)")
)
CARTOUCHE = st.recursive(
    INSIDE, lambda inner: st.tuples(inner, inner).map(lambda two: f"{two[0]} \\<open>{two[1]} (* ›")
)
ITEM = st.one_of(
    COMMENT.map(lambda text: f'(* "{text}*)'),
    CARTOUCHE.map(lambda text: f"‹{text}\\<close>"),
    INSIDE.map(lambda text: f'"{text} (* \\" \\<open>"'),
    INSIDE.map(lambda text: f"`{text} *) \\``"),
    st.sampled_from(["by auto", "\n", "then", ".", "[[simp]]", "(rule ML.x)"]),
)


@given(
    st.lists(ITEM),
    st.lists(ITEM),
    st.sampled_from(["sorry", "sorry.", ".sorry", "oops", "ML", "theorem", "end"]),
)
def test_words_count_outside_of_quotations_and_comments_only(before, after, word):
    """Texts that are made of whole pieces, so that what stands between two of them is known."""
    text = " ".join(["by auto", *before, *after])
    assert read_sketch(PROBLEM, text) == [text.strip()]
    assert read_sketch(PROBLEM, " ".join(["by auto", *before, word, *after])) is None
    parts = read_sketch(PROBLEM, " ".join(["by auto", *before, "sledgehammer", *after]))
    assert parts and len(parts) == 2


def test_suggestions_are_read_as_sledgehammer_writes_them():
    said = [
        "Sledgehammering...",
        "cvc4: Try this: by (simp add: a) (12 ms)",
        "z3: Try this: using h0 h1 by fastforce (1.5 s)\nspass found a proof...",
        "e: Try this: by (simp add: a) (2 ms)",
        "verit: Try this: by (metis a b(1)) (> 1.0 s, timed out)",
        "No proof found",
    ]
    assert suggested(said) == [
        "by (simp add: a)",
        "using h0 h1 by fastforce",
        "by (metis a b(1)) (> 1.0 s, timed out)",
    ]


@pytest.mark.parametrize("name", ["numbertheory", "other"])
def test_our_own_exemplars_are_accepted(name):
    for exemplar in read_formal_exemplars(name):
        problem = Problem("minif2f", "0", "", "", extra={"formal_statement": exemplar.statement})
        parts = read_sketch(problem, exemplar.proof)
        assert parts and len(parts) == exemplar.proof.count("sledgehammer") + 1


def test_the_released_statements_can_be_put(client, prover, dsm_data):
    for problem in read_benchmarks(dsm_data / "benchmarks", ["minif2f", "minif2f_validation"])[::40]:
        assert check_proof(client, problem, PROOF, LIMITS) == "proved"
        repeated = f"{problem.extra['formal_statement']}\n{PROOF}"
        assert read_sketch(problem, repeated) == [PROOF]
