"""evaluate.py and compare_evaluations.py: what is asked, kept, resumed and told; mistakes in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dsm_jax.evaluate.problems import GENERATOR, read_problems
from dsm_jax.evaluate.prompts import PROTOCOLS, task
from dsm_jax.evaluate.samples import chunk_file, read_samples, write_samples
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model import Model, save_hf
from dsm_jax.model.config import SMOKE
from dsm_jax.model.params import init_params
from dsm_jax.tokenizer import train_sentencepiece
from tests.evaluate.lessons import lessons, write_small_benchmarks
from tests.evaluate.overfitted import overfit
from tests.experiments.killed import kill_twice
from tests.experiments.scripts import error_line, load_script, run
from tests.processes import run_processes

ROOT = Path(__file__).parents[2]
PUBLISHED = (
    "gsm8k", "sat", "ocw", "mmlu_stem", "cmath", "mgsm_zh", "gaokao_mathcloze", "gaokao_mathqa", "svamp", "multiarith",
)  # fmt: skip
SMALL = ("math", "mmlu", "bbh", "humaneval", "mbpp")


@pytest.fixture(scope="module")
def script():
    return load_script("evaluate")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Of random numbers, with its tokenizer."""
    at = tmp_path_factory.mktemp("model")
    train_sentencepiece(
        [f"User: What is {i}*4? Assistant:" for i in range(60)], at / "tokenizer.model", vocab_size=320
    )
    mesh, config = single_device_mesh(), replace(SMOKE, n_layers=1, max_seq_len=1024)
    save_hf(Model(config, init_params(config, 0, mesh)), at / "saved", at / "tokenizer.model")
    return at / "saved"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_small_benchmarks(folder, 6)
    return folder


def options(model: Path, data: Path, out: Path, *more: str) -> list[str | Path]:
    words = ["--model", model, "--data", data, "--out", out, "--sampling.max-new-tokens", "12"]
    return [*words, "--mesh", "fsdp=8", *more]


@pytest.fixture(scope="module")
def whole(script, model, data, tmp_path_factory) -> Path:
    """Two benchmarks in two protocols, three answers each, in chunks of two problems."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run(script, *options(model, data, out, *SAMPLED))
    return out


SAMPLED = (
    "--benchmarks", "math,mbpp", "--protocols", "few_shot_pot,tool", "--shots", "1", "--sampling.n", "3",
    "--sampling.temperature", "1", "--sampling.chunk", "6", "--limit", "5",
)  # fmt: skip


def test_every_answer_has_a_row(whole):
    rows = read_samples(whole / "samples/math-few_shot_pot")
    assert [(row.id, row.sample) for row in rows] == [
        (f"algebra/{i}", n) for i in (0, 1, 2, 3, 4) for n in range(3)
    ]
    assert all(
        row.prompt.endswith("Express your answer as a numeric type or a SymPy object.") for row in rows
    )
    assert {row.gold for row in rows} == {str(i + 2) for i in range(5)}
    assert all(row.correct.keys() >= {"strict", "flexible"} for row in rows)
    results = json.loads((whole / "results.json").read_text())["scores"]
    assert set(results) == {
        f"{name}-{protocol}" for name in ("math", "mbpp") for protocol in ("few_shot_pot", "tool")
    }
    assert results["math-tool"]["at_k"].keys() == {"1", "2", "3"} and "by_level" in results["math-tool"]
    page = (whole / "report.html").read_text()
    assert page.count("data:image/png") == 6 and "Beside the paper" in page


def test_what_is_lost_is_made_again_and_the_rest_is_kept(script, model, data, whole, tmp_path):
    out = tmp_path / "run"
    run(script, *options(model, data, out, *SAMPLED))
    kept = {file: file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}
    assert {str(file.relative_to(out)): text for file, text in kept.items() if file.suffix != ".html"} == {
        str(file.relative_to(whole)): file.read_bytes()
        for file in sorted(whole.rglob("*")) if file.is_file() and file.name not in ("config.json", "report.html")
    } | {"config.json": (out / "config.json").read_bytes()}  # fmt: skip
    lost = chunk_file(out / "samples/math-tool", 1)
    stamps = {file: file.stat().st_mtime_ns for file in out.rglob("*.jsonl")}
    lost.unlink()
    run(script, *options(model, data, out, *SAMPLED))
    assert {file: file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()} == kept
    assert [file for file in stamps if file.stat().st_mtime_ns != stamps[file]] == [lost]


def test_answers_of_another_model_or_of_other_problems_are_refused(
    script, model, data, whole, capsys, tmp_path
):
    config, mesh = replace(SMOKE, n_layers=1, max_seq_len=1024), single_device_mesh()
    save_hf(Model(config, init_params(config, 1, mesh)), tmp_path / "other", model / "tokenizer.model")
    said = error_line(script, capsys, *options(tmp_path / "other", data, whole, *SAMPLED))
    assert "holds a run of another configuration: --model" in said
    said = error_line(script, capsys, *options(model, data, whole, *SAMPLED, "--limit", "4"))
    assert "--limit (there 5, now 4)" in said


def test_prompts_are_printed_without_a_model(script, data, capsys):
    run(
        script,
        "--benchmarks",
        "math,humaneval",
        "--data",
        data,
        "--protocols",
        "few_shot_cot",
        "--print-prompt",
    )
    said = capsys.readouterr().out
    assert "## math, few_shot_cot; stops at" in said and said.count("Problem:\n") == 5
    assert 'def add(a):\n    """Adds 0."""' in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--benchmarks", "gsm9k"], "benchmark gsm9k: not known"),
        (["--benchmarks", "gsm8k"], "benchmark gsm8k: not in"),
        (["--benchmarks", "math", "--protocols", "chat"], "protocol chat: not known"),
        (["--benchmarks", "math", "--k", "4"], "--k 4: there are 1 answers a problem"),
        (["--benchmarks", "math", "--limit", "-1"], "--limit is -1"),
        (["--benchmarks", "minif2f"], "minif2f"),
        (
            ["--benchmarks", "minif2f,math", "--protocols", "few_shot_cot", "--isabelle", "nowhere"],
            "benchmark minif2f: not in",
        ),
        (["--benchmarks", "math", "--isabelle", "nowhere"], "--isabelle: it checks the proofs of minif2f"),
        (["--benchmarks", ""], "--benchmarks is empty"),
        (["--benchmarks", "math", "--shots", "1"], "--shots: worked examples"),
        (
            ["--benchmarks", "math", "--protocols", "few_shot_cot", "--shots", "5"],
            "has 0 to 4 exemplars, not 5",
        ),
        (["--benchmarks", "math", "--protocols", "few_shot_cot", "--chat"], "--chat: few-shot prompts"),
        (["--benchmarks", "math", "--rewards", "no.jsonl"], "--rewards: with one answer"),
        (["--sampling.n", "0"], "--sampling.n is 0"),
        (["--sampling.n", "2"], "at temperature 0 all answers are the same"),
        (["--sampling.top-p", "2"], "--sampling.top-p is 2"),
        (["--sampling.temperature=-1"], "--sampling.temperature is -1"),
        (["--sampling.max-new-tokens", "0"], "--sampling.max-new-tokens is 0"),
    ],
)
def test_mistakes_are_one_line(script, model, data, capsys, tmp_path, words, said):
    assert said in error_line(script, capsys, *options(model, data, tmp_path / "run", *words))
    assert not (tmp_path / "run").exists()


def test_a_model_without_tokenizer_and_a_row_without_its_field(script, model, data, capsys, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((model / name).read_bytes())
    said = error_line(script, capsys, *options(tmp_path, data, tmp_path / "run", "--benchmarks", "math"))
    assert "no tokenizer" in said
    bad = tmp_path / "svamp.jsonl"
    bad.write_text('{"Body": "A", "Question": "B?", "Answer": 1}\n{"Body": "A", "Question": "B?"}\n')
    said = error_line(script, capsys, *options(model, bad, tmp_path / "run", "--benchmarks", "svamp"))
    assert f"{bad}:2" in said and "no Answer" in said


def test_a_prompt_that_does_not_fit_is_one_row(script, model, data, tmp_path):
    """Of two problems one is longer than the model's sequences."""
    rows = [{"question": "1 + 1?", "answer": "#### 2"}, {"question": "1 + " * 2000, "answer": "#### 3"}]
    (tmp_path / "gsm8k.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(script, *options(model, tmp_path, tmp_path / "run", "--benchmarks", "gsm8k"))
    first, second = read_samples(tmp_path / "run/samples/gsm8k-zero_shot_cot")
    assert (
        first.finish in ("stop", "length") and second.finish == "error" and second.correct["strict"] is False
    )
    assert (
        json.loads((tmp_path / "run/results.json").read_text())["scores"]["gsm8k-zero_shot_cot"]["finish"][
            "error"
        ]
        == 1
    )


def test_a_file_of_ones_own_is_a_benchmark(script, model, tmp_path, capsys):
    rows = [{"question": "1 + 1?", "answer": 2}, {"question": "一加二?", "answer": "3"}]
    rows += [{"question": "Which?", "options": ["4", "5"], "answer": "B"}]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--benchmarks", "mine", "--protocols", "zero_shot_cot,few_shot_cot", "--shots", "0"]
    run(script, *options(model, tmp_path / "mine.jsonl", tmp_path / "run", *words))
    found = read_samples(tmp_path / "run/samples/mine-zero_shot_cot")
    assert [row.language for row in found] == ["en", "zh", "en"] and [row.gold for row in found] == [
        "2",
        "3",
        "B",
    ]
    assert "(A) 4 (B) 5" in found[2].prompt and "请" in found[1].prompt
    (tmp_path / "gsm8k_test.csv").write_text('question,answer\n"1, 2?",#### 3\n')
    run(script, "--benchmarks", "gsm8k", "--data", tmp_path, "--print-prompt")
    assert "1, 2?" in capsys.readouterr().out


def test_a_torn_file_is_asked_again(script, model, data, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run/config.json").unlink()
    file = chunk_file(tmp_path / "run/samples/mbpp-tool", 0)
    text = file.read_bytes()
    file.write_bytes(text[: len(text) // 2])
    run(script, *options(model, data, tmp_path / "run", *SAMPLED))
    assert file.read_bytes() == text


def test_a_model_that_cannot_be_read_leaves_no_run(script, model, data, capsys, tmp_path):
    shutil.copytree(model, tmp_path / "broken")
    (tmp_path / "broken/model.safetensors").unlink()
    error_line(script, capsys, *options(tmp_path / "broken", data, tmp_path / "run", "--benchmarks", "math"))
    run(script, *options(model, data, tmp_path / "run", "--benchmarks", "math"))


def test_proofs_without_a_server_are_unchecked_and_never_a_number(script, model, capsys, tmp_path):
    row = {
        "problem_name": "a",
        "informal_statement": "Show 1 + 1 = 2.",
        "informal_proof": "Clear.",
        "header": "theory A",
    }
    row["formal_statement"] = 'theorem a:\n  shows "1 + 1 = (2::nat)"'
    (tmp_path / "minif2f.jsonl").write_text(json.dumps(row) + "\n")
    words = ["--benchmarks", "minif2f", "--protocols", "few_shot_cot", "--shots", "0"]
    run(script, *options(model, tmp_path, tmp_path / "run", *words))
    (score,) = json.loads((tmp_path / "run/results.json").read_text())["scores"].values()
    assert score["accuracy"] == {} and score["unscored"]["strict"] == 1
    assert read_samples(tmp_path / "run/samples/minif2f-few_shot_cot")[0].reason == "unchecked"


def test_two_runs_are_compared(whole, capsys, tmp_path):
    compare = load_script("compare_evaluations")
    run(compare, whole, whole, "--out", tmp_path / "compare.html")
    said = capsys.readouterr().out
    assert said.count("undecided") == 4 and "math-tool" in said
    assert "gained" not in (tmp_path / "compare.html").read_text()
    better = tmp_path / "better"
    shutil.copytree(whole / "samples/math-tool", better / "samples/math-tool")
    rows = read_samples(better / "samples/math-tool")
    changed = [
        replace(row, correct=row.correct | {"strict": row.sample == 1}, response=f"try {row.sample}")
        for row in rows
    ]
    for file in (better / "samples/math-tool").glob("*"):
        file.unlink()
    write_samples(chunk_file(better / "samples/math-tool", 0), changed)
    run(compare, better, whole, "--out", tmp_path / "compare.html")
    page = (tmp_path / "compare.html").read_text()
    assert (
        "5 problems gained, 0 lost" in page and "try 1\n(1 of 3 right)" in page and "(0 of 3 right)" in page
    )
    assert "no samples/ there" in error_line(
        compare, capsys, whole, tmp_path, "--out", tmp_path / "compare.html"
    )


@pytest.mark.slow
def test_every_benchmark_runs_in_all_protocols(script, dsm_data, tmp_path):
    """A model that has learned half of the answers by heart: 20 to 80% are right in each of them."""
    write_small_benchmarks(tmp_path / "data", 20)
    names, paths = [*PUBLISHED, *SMALL, GENERATOR], [dsm_data, tmp_path / "data"]
    problems = read_problems(names, paths, 20)
    learned = [
        lesson
        for name in names
        for protocol in PROTOCOLS
        for lesson in lessons(task(name, protocol, shots=1), problems[name])
    ]
    model = overfit(learned, tmp_path, steps=400, window=256)
    words = ["--benchmarks", ",".join(names), "--protocols", "all", "--limit", "20", "--shots", "1"]
    words += ["--sampling.max-new-tokens", "128", "--model", str(model), "--out", str(tmp_path / "run")]
    command = [sys.executable, "experiments/evaluate.py", *words, "--data", *map(str, paths)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"XLA_FLAGS": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "run/results.json").read_text())["scores"]
    assert len(scores) == len(names) * len(PROTOCOLS)
    right = {name: score["accuracy"]["strict"]["value"] for name, score in scores.items()}
    assert {name: share for name, share in right.items() if not 0.2 <= share <= 0.8} == {}


@pytest.mark.slow
def test_killed_runs_end_in_the_same_report(model, data, tmp_path):
    files = ["results.json", "report.html", "samples/math-tool/000001.jsonl"]
    files += ["samples/mbpp-few_shot_pot/000000.jsonl"]
    command = ["experiments/evaluate.py", "--model", model, "--data", data, "--out", "{out}", *SAMPLED]
    command += ["--sampling.max-new-tokens", "64"]
    kill_twice(tmp_path / "drill", command, compare=files, writes="samples")


@pytest.mark.slow
@pytest.mark.exhaustive
def test_two_processes_leave_the_files_of_one(model, data, tmp_path):
    for count in (1, 2):
        words = options(model, data, tmp_path / str(count), *SAMPLED)
        run_processes(["experiments/evaluate.py", *map(str, words)], count)
    one, two = (
        {
            str(file.relative_to(tmp_path / name)): file.read_bytes()
            for file in sorted((tmp_path / name).rglob("*.json*"))
        }
        for name in ("1", "2")
    )
    assert len(one) > 6 and {name for name in one if one[name] != two[name]} == {"config.json"}
