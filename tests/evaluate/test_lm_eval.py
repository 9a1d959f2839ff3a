"""Our model class of lm-evaluation-harness, against its own evaluator, Model.logits and the sampler."""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("lm_eval", reason="lm-evaluation-harness is missing: pip install '.[lm-eval]'")

from lm_eval import simple_evaluate
from lm_eval.api.model import CachingLM
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

from dsm_jax.data.prompts import prompt_text
from dsm_jax.errors import UserError
from dsm_jax.evaluate import grade
from dsm_jax.evaluate.lm_eval import DsmLM
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model import Model, save_hf
from dsm_jax.model.config import SMOKE, TINY
from dsm_jax.sample import Sampler
from tests.evaluate.overfitted import overfit_pairs
from tests.sample.models import CONFIG, Letters, params_of

pytestmark = pytest.mark.slow
PAIRS = [(f"What is {a} times {b}?", f"It is {a * b}.\n#### {a * b}") for a in (2, 3, 7) for b in (4, 5, 8)]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.fixture(scope="module")
def random_model() -> Model:
    return Model(CONFIG, params_of(CONFIG, single_device_mesh()))


@pytest.fixture(scope="module")
def random_lm(random_model: Model) -> DsmLM:
    return DsmLM(Sampler(random_model, Letters(), slots=8))


class Learnt(NamedTuple):
    model: Model
    lm: DsmLM
    tokenizer: Path


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    folder, config = tmp_path_factory.mktemp("overfit"), dataclasses.replace(SMOKE, vocab_size=320)
    model, tokenizer = overfit_pairs(PAIRS, folder, config, steps=120, window=64)
    return Learnt(model, DsmLM(Sampler(model, tokenizer, slots=8)), folder / "tokenizer.model")


def asked(*arguments: Any) -> list[SimpleNamespace]:
    return [SimpleNamespace(args=one) for one in arguments]


def logits_of(model: Model, ids: Sequence[int]) -> np.ndarray:
    """fp64 log-softmax [t, V] behind each of t ids."""
    logits = np.asarray(model.logits(np.array([ids])))[0].astype(np.float64)
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def expected(model: Model, context: list[int], own: list[int]) -> tuple[float, bool]:
    logps = logits_of(model, [*context, *own][:-1])[-len(own) :]
    return logps[np.arange(len(own)), own].sum(), logps.argmax(-1).tolist() == own


CASES = [
    ("a b", " c"),
    ("a b ", "c"),  # the space is the continuation's
    ("", "alone"),
    ("x" * 40, "y" * 70),
    ("x" * 505, "y" * 20),  # 526 tokens with bos: the first 13 go
    ("z", "w" * 512),
]


@pytest.mark.parametrize(("context", "continuation"), CASES)
def test_loglikelihood_is_the_sum_of_the_logits(random_model, random_lm, context, continuation):
    ((found, greedy),) = random_lm.loglikelihood(asked((context, continuation)), disable_tqdm=True)
    letters = Letters().encode
    spaces = len(context) - len(context.rstrip())
    own = letters(" " * spaces + continuation)
    before = [1, *letters(context.rstrip())]
    kept = [*before, *own][-513:][: -len(own)]
    assert found == pytest.approx(expected(random_model, kept, own)[0], abs=1e-4 * len(own))
    assert greedy == expected(random_model, kept, own)[1]


def test_many_at_once_come_back_in_their_order(random_lm):
    requests = asked(*CASES[:4], *[("q" * (1 + 7 * i % 50), "r" * (1 + i % 3)) for i in range(60)])
    together = random_lm.loglikelihood(requests, disable_tqdm=True)
    alone = [random_lm.loglikelihood([request], disable_tqdm=True)[0] for request in requests]
    np.testing.assert_allclose([one[0] for one in together], [one[0] for one in alone], atol=1e-3)
    assert [one[1] for one in together] == [one[1] for one in alone]


def test_what_was_learnt_is_greedy_and_else_it_is_not(learnt):
    model, lm, _ = learnt
    right = asked(*[(prompt_text(question), f" {answer}") for question, answer in PAIRS])
    wrong = asked(*[(prompt_text(question), f" So{answer[2:]}") for question, answer in PAIRS])
    scores = lm.loglikelihood(right + wrong, disable_tqdm=True)
    assert [greedy for _, greedy in scores] == [True] * len(right) + [False] * len(wrong)
    assert min(logp for logp, _ in scores[: len(right)]) > max(logp for logp, _ in scores[len(right) :])
    for request, (logp, greedy) in zip(right + wrong, scores, strict=True):
        context, own = lm._encode_pair(*request.args)
        of_logits, is_greedy = expected(model, context, own)
        assert logp == pytest.approx(of_logits, abs=1e-4 * len(own)) and greedy == is_greedy


def test_a_continuation_without_tokens_of_its_own_is_refused(random_lm):
    with pytest.raises(UserError, match=r"has 0 tokens of its own.*\('a', ''\)"):
        random_lm.loglikelihood(asked(("a", "")), disable_tqdm=True)
    with pytest.raises(UserError, match="has 513 tokens of its own, and the model takes 1 to 512"):
        random_lm.loglikelihood(asked(("a", "b" * 513)), disable_tqdm=True)


@pytest.mark.parametrize("length", [0, 1, 100, 512, 513, 1500])
def test_rolling_is_the_sum_over_the_whole_text(random_model, random_lm, length):
    """Windows as lm-evaluation-harness documents them: the first begins with bos, later ones with the token before, the last
    has as much context as the model takes."""
    text = "".join(chr(97 + i * i % 23) for i in range(length))
    (found,) = random_lm.loglikelihood_rolling(asked((text,)), disable_tqdm=True)
    ids, total = [1, *Letters().encode(text)], 0.0
    for start in range(0, length, 512):
        end = min(start + 512, length)
        logps = logits_of(random_model, ids[max(0, end - 512) : end])
        own = ids[start + 1 : end + 1]
        total += logps[np.arange(-len(own), 0), own].sum()
    assert found == pytest.approx(total, abs=1e-4 * max(1, length))


OPTIONS = [
    ({"until": ["\n"], "max_gen_toks": 30, "do_sample": False}, {"temperature": 0.0, "stop": ["\n"]}),
    ({"until": "a", "max_gen_toks": 30}, {"temperature": 0.0, "stop": ["a"]}),
    ({"until": ["", "ab"], "max_tokens": 30, "temperature": 0.0, "num_beams": 1}, {"temperature": 0.0}),
    ({"max_gen_toks": 30, "do_sample": True, "temperature": 0.8, "top_p": 0.9, "seed": 3},
     {"temperature": 0.8, "top_p": 0.9, "seed": 3}),
    ({"max_gen_toks": 30, "do_sample": True, "top_k": 5}, {"temperature": 1.0, "top_k": 5}),
    ({"max_gen_toks": 30, "do_sample": False, "temperature": 1}, {"temperature": 0.0}),
]  # fmt: skip


@pytest.mark.parametrize(("options", "ours"), OPTIONS)
def test_generation_is_the_samplers(random_lm, options, ours):
    prompts = ["one", "two plus two is", "one", "x" * 60]
    given = json.loads(json.dumps(options))
    found = random_lm.generate_until(asked(*[(prompt, options) for prompt in prompts]), disable_tqdm=True)
    wanted = random_lm.sampler.generate(prompts, max_new_tokens=30, **ours)
    assert found == [row[0].text for row in wanted]
    assert options == given


def test_generation_ends_before_a_stop_text(random_lm):
    options = {"max_gen_toks": 30, "do_sample": False}
    (whole,) = random_lm.generate_until(asked(("one", options)), disable_tqdm=True)
    until = [whole[9:11], "never there", whole[5:7]]
    end = min(whole.index(until[0]), whole.index(until[2]))
    (cut,) = random_lm.generate_until(asked(("one", options | {"until": until})), disable_tqdm=True)
    assert 0 < end <= 5 and cut == whole[:end]


def test_a_context_that_does_not_fit_loses_its_beginning(random_lm):
    text = "".join(chr(97 + i % 26) for i in range(600))
    (found,) = random_lm.generate_until(asked((text, {"max_gen_toks": 100})), disable_tqdm=True)
    ids = Letters().encode(text)[-412:]
    assert found == random_lm.sampler.generate([ids], max_new_tokens=100, temperature=0.0)[0][0].text
    assert random_lm._request("", {}).prompt == [1]


def test_bos_is_left_out_where_it_is_said_so(random_model):
    lm = DsmLM(Sampler(random_model, Letters()), add_bos_token=False)
    assert lm.tok_encode("ab") == Letters().encode("ab")
    assert lm._request("ab", {}).prompt == Letters().encode("ab")
    assert lm.tok_encode("ab", add_special_tokens=True)[0] == lm._request("", {}).prompt[0] == 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"num_beams": 4}, "generation options"),
        ({"repetition_penalty": 1.1}, "generation options .*repetition_penalty.* known are until"),
        ({"max_gen_toks": 512}, "max_gen_toks 512 leaves no room for a prompt in the model's 512"),
        ({"do_sample": True, "temperature": -1.0}, "temperature is -1.0"),
    ],
)
def test_options_that_would_be_ignored_are_refused(random_lm, options, line):
    with pytest.raises(UserError, match=line):
        random_lm.generate_until(asked(("a", options)), disable_tqdm=True)


def test_its_cache_holds_what_was_answered(random_lm, tmp_path, monkeypatch):
    cached = CachingLM(random_lm, str(tmp_path / "cache.db"))
    calls = {
        "loglikelihood": asked(("a", "b"), ("c", "d")),
        "loglikelihood_rolling": asked(("abc",)),
        "generate_until": asked(("a", {"max_gen_toks": 5})),
    }
    first = {name: getattr(cached, name)(requests) for name, requests in calls.items()}
    monkeypatch.setattr(random_lm, "sampler", None)  # it is not asked again
    assert {name: getattr(cached, name)(requests) for name, requests in calls.items()} == first


def test_it_is_known_by_name(learnt, tmp_path):
    save_hf(learnt.model, tmp_path / "hf", learnt.tokenizer)
    loaded = get_model("dsm_jax").create_from_arg_string(
        f"model={tmp_path / 'hf'},slots=4,fsdp=2,data=4", {"batch_size": 1, "device": None}
    )
    assert dict(loaded.sampler.mesh.shape) == {"data": 4, "fsdp": 2, "tensor": 1}
    requests = asked(*[(prompt_text(question), f" {answer}") for question, answer in PAIRS])
    ours, again = (one.loglikelihood(requests, disable_tqdm=True) for one in (learnt.lm, loaded))
    np.testing.assert_allclose(np.array(again), np.array(ours), atol=1e-3)
    with pytest.raises(UserError, match="--model_args modl: not known; known are model, dtype"):
        get_model("dsm_jax").create_from_arg_string("modl=x")


def task(
    folder: Path, rows: Sequence[Mapping[str, str]], *, most: int = 30, **changes: Any
) -> dict[str, Any]:
    """GSM8K's own task of lm-evaluation-harness, but with the prompt that the row holds."""
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "task": "local_gsm8k",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n\nUser:"], "do_sample": False, "max_gen_toks": most},
        "filter_list": [
            {
                "name": "strict-match",
                "filter": [
                    {"function": "regex", "regex_pattern": r"#### (\-?[0-9\.\,]+)"},
                    {"function": "take_first"},
                ],
            }
        ],
        "metric_list": [
            {
                "metric": "exact_match",
                "aggregation": "mean",
                "higher_is_better": True,
                "ignore_case": True,
                "ignore_punctuation": False,
                "regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"],
            }
        ],
        **changes,
    }


def rows_of(pairs: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"prompt": prompt_text(question), "answer": answer} for question, answer in pairs]


def evaluate(lm: DsmLM, task: dict[str, Any]) -> dict[str, Any]:
    own = TaskManager(include_defaults=False)  # looking through all of its tasks takes seconds
    return simple_evaluate(lm, tasks=[task], task_manager=own, bootstrap_iters=0)


def verdicts(lm: DsmLM, task: dict[str, Any]) -> list[tuple[str, bool]]:
    """Each response and what lm-evaluation-harness says of it."""
    samples = sorted(evaluate(lm, task)["samples"]["local_gsm8k"], key=lambda sample: sample["doc_id"])
    return [(sample["resps"][0][0], sample["exact_match"] == 1.0) for sample in samples]


def test_its_evaluator_scores_a_local_task(learnt, tmp_path):
    wrong = [(question, answer + "1") for question, answer in PAIRS[:3]]
    found = verdicts(learnt.lm, task(tmp_path, rows_of(PAIRS + wrong)))
    assert [text for text, _ in found] == [f" {answer}" for _, answer in PAIRS + PAIRS[:3]]
    assert [correct for _, correct in found] == [True] * len(PAIRS) + [False] * 3


def test_where_its_strict_match_and_our_grader_differ(random_lm, tmp_path, monkeypatch):
    """It compares texts and reads the first marker; ours compares values and reads the last one."""
    said = {
        "so 18\n#### 18": (True, True),
        "#### 1,800": (False, False),
        "18": (False, False),
        "#### 18.": (True, True),
        "#### 18.00": (False, True),
        "#### $18": (False, True),
        "#### 18\n\n#### 19": (True, False),
        "#### 19\n\n#### 18": (False, True),
    }
    monkeypatch.setattr(random_lm, "generate_until", lambda requests: list(said))
    found = verdicts(random_lm, task(tmp_path, rows_of([("?", "#### 18")] * len(said))))
    assert [correct for _, correct in found] == [theirs for theirs, _ in said.values()]
    assert [grade(text, "18").correct for text in said] == [ours for _, ours in said.values()]


def test_its_multiple_choice_takes_the_likeliest_answer(learnt, tmp_path):
    rows = [
        {"prompt": prompt_text(question), "right": f" {answer}", "wrong": f" So{answer[2:]}", "gold": i % 2}
        for i, (question, answer) in enumerate(PAIRS)
    ]
    choice = task(
        tmp_path,
        rows,
        output_type="multiple_choice",
        doc_to_choice="{{[right, wrong]}}",
        doc_to_target="gold",
        target_delimiter="",
        metric_list=[{"metric": "acc"}],
    )
    for name in ("filter_list", "generation_kwargs"):
        del choice[name]
    results = evaluate(learnt.lm, choice)
    assert results["results"]["local_gsm8k"]["acc,none"] == pytest.approx(5 / 9)


def test_200_problems_get_the_verdict_that_our_grader_gives(dsm_data, tmp_path):
    """The shortest ones, so that a model of a million parameters learns half of them in two minutes."""
    pairs = gsm8k(dsm_data, 200)
    questions = [question for question, _ in pairs]
    model, tokenizer = overfit_pairs(pairs[::2], tmp_path, TINY, texts=questions, steps=240, window=256)
    lm = DsmLM(Sampler(model, tokenizer))
    theirs = verdicts(lm, task(tmp_path, rows_of(pairs), most=160))
    completions = lm.sampler.generate(
        [prompt_text(question) for question in questions],
        max_new_tokens=160,
        temperature=0.0,
        stop=["\n\nUser:"],
    )
    assert [text for text, _ in theirs] == [row[0].text for row in completions]
    ours = [
        grade(as_they_read(row[0].text), answer.split("#### ")[1]).correct
        for row, (_, answer) in zip(completions, pairs, strict=True)
    ]
    assert 0.2 <= np.mean(ours) <= 0.8
    differing = [
        (text, correct, own) for (text, correct), own in zip(theirs, ours, strict=True) if correct != own
    ]
    assert not differing


def as_they_read(text: str) -> str:
    """Of several marked answers they take the first, where we take the last: without what stands behind the first."""
    first = re.search(r"#### -?[0-9.,]+", text)
    return text[: first.end()] if first and text.count("####") > 1 else text


def test_its_command_line_knows_the_model(learnt, tmp_path):
    save_hf(learnt.model, tmp_path / "hf", learnt.tokenizer)
    (tmp_path / "local.yaml").write_text(json.dumps(task(tmp_path, rows_of(PAIRS))))  # JSON is YAML
    command = [sys.executable, "-m", "dsm_jax.evaluate.lm_eval", "run", "--model", "dsm_jax", "--tasks", "local_gsm8k"]  # fmt: skip
    command += ["--include_path", str(tmp_path), "--output_path", str(tmp_path / "out"), "--model_args"]
    done = subprocess.run([*command, f"model={tmp_path / 'hf'}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"local_gsm8k\|.*strict-match\|.*exact_match.*\|\s*1\b", done.stdout), done.stdout
    failed = subprocess.run([*command, "model=/nowhere"], capture_output=True, text=True, check=False)
    assert failed.returncode == 2 and failed.stderr.splitlines()[-1].startswith("error: /nowhere")


def gsm8k(data: Path, count: int) -> list[tuple[str, str]]:
    """The shortest problems with their published answers, without a calculator's marks."""

    def rows() -> Iterator[tuple[str, str]]:
        with gzip.open(data / "gsm8k/test.jsonl.gz", "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                yield row["question"], re.sub("<<.*?>>", "", row["answer"])

    return sorted(rows(), key=lambda pair: len(pair[0] + pair[1]))[:count]
