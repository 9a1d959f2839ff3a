"""The harness: answers kept for the same parameters and questions only, graded rows, scores."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from dsm_jax.data.problems import FAMILIES, ProblemSet
from dsm_jax.evaluate import harness
from dsm_jax.evaluate.harness import accuracy_by, answer_problems, greedy_scores, sampled_scores
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model.config import SMOKE
from dsm_jax.model.params import init_params
from dsm_jax.sample.request import Completion
from dsm_jax.sample.sampler import Sampler

PROBLEMS = ProblemSet("test", families=FAMILIES[:2], seed=0).distinct(6)
EMPTY = np.zeros(0, np.float32)


class Scripted:
    """A sampler of fixed texts: sample s of prompt p is texts[(p + s) % len(texts)]; it counts its calls."""

    def __init__(self, *texts: str, parameters: str = "a", finish_reason: str = "stop"):
        self.texts, self.parameters, self.finish_reason, self.calls = texts, parameters, finish_reason, 0

    def fingerprint(self) -> str:
        return self.parameters

    def generate(self, prompts, *, n, on_finish, **options) -> list[list[Completion]]:
        self.calls += 1
        texts = [[self.texts[(p + s) % len(self.texts)] for s in range(n)] for p in range(len(prompts))]
        return [
            [Completion(text, EMPTY, EMPTY, EMPTY, EMPTY, self.finish_reason) for text in row]
            for row in texts
        ]


def ask(sampler, path, problems=PROBLEMS, prompt=str, **options):
    return answer_problems(
        sampler, problems, path, prompt=prompt, **{"max_new_tokens": 8, "description": "test"} | options
    )


def responses(rows) -> set[str]:
    return {text for row in rows for text in row.responses}


def test_the_same_parameters_are_asked_once(tmp_path):
    path, sampler = tmp_path / "eval" / "greedy.jsonl", Scripted("\\boxed{1}")
    first = ask(sampler, path)
    files = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    assert set(files) == {"greedy.jsonl", "greedy.json"}
    assert ask(sampler, path) == first and sampler.calls == 1
    path.unlink()
    assert ask(sampler, path) == first and sampler.calls == 2
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == files


def test_other_parameters_are_asked_again(tmp_path):
    path = tmp_path / "greedy.jsonl"
    ask(Scripted("\\boxed{1}"), path)
    assert responses(ask(Scripted("\\boxed{2}", parameters="b"), path)) == {"\\boxed{2}"}
    assert responses(ask(Scripted("\\boxed{3}"), path)) == {"\\boxed{3}"}  # and again the first ones


@pytest.mark.parametrize(
    "change",
    [
        {"n": 2},
        {"temperature": 0.5},
        {"rng_seed": 1},
        {"max_new_tokens": 9},
        {"problems": PROBLEMS[1:]},
        {"problems": [dataclasses.replace(PROBLEMS[0], answer="123456"), *PROBLEMS[1:]]},
        {"prompt": "Q: {}".format},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_questions_or_sampling_are_asked_again(tmp_path, change):
    path, sampler = tmp_path / "greedy.jsonl", Scripted("\\boxed{1}")
    ask(sampler, path)
    ask(sampler, path, **change)
    assert sampler.calls == 2


def test_rows_without_their_sidecar_are_made_again(tmp_path, monkeypatch):
    """A kill between the two files; then the parameters of the sidecar before come back."""
    path = tmp_path / "greedy.jsonl"
    ask(Scripted("\\boxed{1}"), path)
    with monkeypatch.context() as patch:
        patch.setattr(harness, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            ask(Scripted("\\boxed{2}", parameters="b"), path)
    assert "\\\\boxed{2}" in path.read_text()
    assert responses(ask(Scripted("\\boxed{1}"), path)) == {"\\boxed{1}"}


def killed(*_):
    raise KeyboardInterrupt


def test_line_separators_inside_answers_survive(tmp_path):
    text = "a\u2028b\u2029c\x85d\x1ce\r\nf\n\\boxed{1}\u2028"
    for _ in range(2):
        rows = ask(Scripted(text), tmp_path / "greedy.jsonl")
        assert len(rows) == len(PROBLEMS) and responses(rows) == {text}


def test_greedy_and_boxed_scores(tmp_path):
    problems = [SimpleNamespace(id=str(i), family="f", level=1, question="q", answer="7") for i in range(4)]
    texts = ("\\boxed{7}", "The answer is 7", "\\boxed{8}", "7")
    scores = greedy_scores(ask(Scripted(*texts), tmp_path / "a.jsonl", problems))
    assert {name: score.value for name, score in scores.items()} == {
        "greedy": 0.5,
        "boxed": 0.5,
        "greedy_boxed": 0.5,
    }
    assert scores["greedy"].n == 4 and scores["greedy_boxed"].n == 2
    cut = greedy_scores(ask(Scripted(*texts, finish_reason="length"), tmp_path / "b.jsonl", problems))
    assert cut["greedy"].value == 0.5 and cut["boxed"].value == 0  # a cut answer does not count as boxed
    assert "greedy_boxed" not in cut


def test_sampled_scores_vote_over_ways_to_write_an_answer(tmp_path):
    problems = [SimpleNamespace(id="0", family="f", level=1, question="q", answer="1/2")]
    rows = ask(
        Scripted("\\boxed{3}", "\\boxed{0.5}", "\\boxed{\\frac12}", "none"), tmp_path / "a", problems, n=4
    )
    assert rows[0].keys == ["3", "1/2", "1/2", None] and rows[0].correct == [False, True, True, False]
    assert (
        sampled_scores(rows, 4)["maj@4"].value == pytest.approx(1)
        and sampled_scores(rows, 4)["pass@4"].value == 1
    )
    assert (
        sampled_scores(rows, 1)["maj@1"].value == pytest.approx(0.5)
        and sampled_scores(rows, 1)["pass@1"].value == 0.5
    )


def test_accuracy_by_family_and_level(tmp_path):
    kinds = [("a", 1), ("a", 2), ("b", 1), ("a", 1)]
    problems = [
        SimpleNamespace(id=str(i), family=family, level=level, question="q", answer=str(i))
        for i, (family, level) in enumerate(kinds)
    ]
    scores = accuracy_by(ask(Scripted("\\boxed{0}"), tmp_path / "a.jsonl", problems))
    assert {kind: (score.value, score.n) for kind, score in scores.items()} == {
        ("a", 1): (0.5, 2),
        ("a", 2): (0, 1),
        ("b", 1): (0, 1),
    }


def test_fingerprint_of_a_model():
    """One number changed gives another name; another mesh does not."""
    tokenizer = SimpleNamespace(eos_id=2, vocab_size=SMOKE.vocab_size)
    sampler = Sampler(SMOKE, tokenizer, single_device_mesh())
    params = init_params(SMOKE, 0, single_device_mesh())
    sampler.load(params)
    name = sampler.fingerprint()
    sampler.load(params)
    assert sampler.fingerprint() == name
    leaves, tree = jax.tree.flatten(params)
    for place, leaf in enumerate(leaves):
        changed = np.array(leaf)
        changed.flat[0] = 2 * changed.flat[0] + 1
        changed = jax.device_put(changed, leaf.sharding)
        sampler.load(jax.tree.unflatten(tree, [*leaves[:place], changed, *leaves[place + 1 :]]))
        assert sampler.fingerprint() != name
    spread = parse_mesh(("data=2,fsdp=2,tensor=2",))
    sampler = Sampler(SMOKE, tokenizer, spread)
    sampler.load(init_params(SMOKE, 0, spread))
    assert sampler.fingerprint() == name
