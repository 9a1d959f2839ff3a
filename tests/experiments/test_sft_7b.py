"""sft_7b.py: it learns to answer, resumes, exports, goes on from a run, and says in one line what is wrong before any work."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dsm_jax.data.prompts import prompt_ids
from dsm_jax.model import load_hf
from dsm_jax.model.config import DEEPSEEK_MATH_7B
from dsm_jax.model.hf_config import config_to_hf
from dsm_jax.run import read_json, read_metrics, write_json
from dsm_jax.tokenizer import load_tokenizer
from tests.experiments.scripts import error_line, load_script, run

SHORT = [
    "--training.loop.steps",
    "4",
    "--training.optimizer.warmup-steps",
    "1",
    "--training.loop.stop-every",
    "4",
]


@pytest.fixture(scope="module")
def script():
    return load_script("sft_7b")


@pytest.fixture(scope="module")
def own(script, tmp_path_factory):
    """A run on the generator's problems: long enough to learn how an answer ends."""
    out = tmp_path_factory.mktemp("own") / "run"
    loop = {"steps": 60, "stop-every": 30, "checkpoint-every": 30}
    steps = [word for name, value in loop.items() for word in (f"--training.loop.{name}", str(value))]
    argv = [
        "--preset",
        "smoke",
        "--out",
        str(out),
        "--workers",
        "0",
        "--problems",
        "2000",
        "--training.batch-size",
        "8",
        *steps,
    ]
    run(script, *argv)
    return out, argv


def test_a_run_and_its_results(own):
    out, _ = own
    results = read_json(out / "results.json")
    assert results["examples"]["examples"] == results["examples"]["cot"] > 1_900
    assert results["answers"]["boxed"]["n"] == 16 and results["answers"]["boxed"]["value"] > 0.5
    rows = [row for row in read_metrics(out / "metrics.jsonl") if "held_out/answers/perplexity" in row]
    assert [row["step"] for row in rows] == [30, 60]
    assert rows[-1]["held_out/answers/perplexity"] == pytest.approx(
        results["held_out"]["perplexity"], rel=1e-5
    )
    assert 1 < results["held_out"]["perplexity"] < 4
    page = (out / "report.html").read_text()
    assert "stopped, with a box (of 16)" in page and "Held-out text: perplexity a token" in page
    answers = [json.loads(line) for line in (out / "answers/greedy.jsonl").read_text().splitlines()]
    trained = (out / "sources/problems.jsonl").read_text()
    assert len(answers) == 16 and not any(json.dumps(one["question"]) in trained for one in answers)


def test_the_exported_model_has_learnt_how_an_answer_begins(own):
    out, _ = own
    model, tokenizer = load_hf(out / "model"), load_tokenizer(out / "model")
    ids = prompt_ids("Find x: 4*x-4=32.", tokenizer)
    logits = np.asarray(model.logits([ids]))[0, -1]
    assert tokenizer.decode([int(logits.argmax())]).startswith(" ")


def test_a_second_start_and_another_configuration(own, script, capsys):
    out, argv = own
    before, model = read_json(out / "results.json"), (out / "model/model.safetensors").read_bytes()
    run(script, *argv, "--mesh", "data=2,fsdp=2,tensor=2")
    after = read_json(out / "results.json")
    assert after["answers"] == before["answers"] and after["examples"] == before["examples"]
    assert after["held_out"]["perplexity"] == pytest.approx(before["held_out"]["perplexity"], rel=1e-5)
    assert (out / "model/model.safetensors").read_bytes() == model
    assert "--problems (there 2000, now 5)" in error_line(script, capsys, *argv, "--problems", "5")


def test_files_of_several_forms_from_a_run(own, script, tmp_path):
    tool = "```python\nprint({})\n```\n```output\n{}\n```\nThe answer is \\boxed{{{}}}."
    rows = [
        {"question": f"What is {n} + 1?", "answer": f"<<{n}+1={n + 1}>>It is\n#### {n + 1}"}
        for n in range(60)
    ]
    rows += [
        {
            "messages": [
                {"role": "user", "content": f"Say {n}."},
                {"role": "assistant", "content": tool.format(n, n, n)},
            ]
        }
        for n in range(60)
    ]
    chat = [("user", "Hi"), ("assistant", "Hello."), ("user", "1+1?"), ("assistant", "2")]
    rows += [
        {"messages": [{"role": role, "content": text} for role, text in chat]},
        {"question": "?", "answer": None},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    argv = ["--preset", "smoke", "--init", str(own[0]), "--out", str(tmp_path / "run"), *SHORT]
    run(
        script,
        *argv,
        "--data",
        str(tmp_path / "rows.jsonl"),
        "--workers",
        "0",
        "--held-out",
        "3000",
    )
    results = read_json(tmp_path / "run/results.json")
    held = read_json(tmp_path / "run/windows/held_out/manifest.json")
    found = results["examples"]
    assert (
        found["cot"] + held["cot"] == 60 == found["tool"] + held["tool"] and found["skipped: no answer"] == 1
    )
    assert found["chat"] + held["chat"] == 1 and found["examples"] + held["examples"] == 121
    # Those asked are the held-out ones answered in words; the tools' are not.
    assert results["answers"]["greedy"]["n"] == min(held["cot"], 16) > 5
    answers = (tmp_path / "run/answers/greedy.jsonl").read_text().splitlines()
    assert all(json.loads(line)["question"].startswith("What is") for line in answers)
    tokenizers = [load_tokenizer(folder / "model").fingerprint for folder in (own[0], tmp_path / "run")]
    assert tokenizers[0] == tokenizers[1]


def test_a_start_that_failed_leaves_nothing_of_its_options(script, tmp_path, capsys):
    """Problems and tokenizer of the first command are not those of the second."""
    argv = ["--preset", "smoke", "--out", str(tmp_path / "run"), "--workers", "0", "--questions", "0"]
    said = error_line(script, capsys, *argv, "--problems", "700", "--training.window", "8", *SHORT)
    assert "no example of up to 8 tokens" in said
    run(script, *argv, "--problems", "900", *SHORT)
    assert len((tmp_path / "run/sources/problems.jsonl").read_text().splitlines()) == 900


def test_data_without_a_question_to_ask(own, script, tmp_path, capsys):
    rows = [
        {"messages": [{"role": "user", "content": str(n)}, {"role": "assistant", "content": "Yes."}]}
        for n in range(40)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    argv = ["--preset", "smoke", "--init", str(own[0]), "--out", str(tmp_path / "run"), *SHORT]
    argv += ["--data", str(tmp_path / "rows.json"), "--workers", "0"]
    run(script, *argv, "--held-out", "0")
    said = capsys.readouterr()
    assert "no question is asked" not in said.err
    assert "40 examples (40 cot) in " in said.out and "left out: none" in said.out
    results = read_json(tmp_path / "run/results.json")
    assert results["answers"] == results["held_out"] == {} and results["examples"]["examples"] == 40
    run(script, *argv, "--held-out", "5000", "--out", str(tmp_path / "held"))
    assert (
        "no question is asked: none of those held out is answered in words, in a box"
        in capsys.readouterr().err
    )


def test_mistakes_are_found_before_any_work(script, tmp_path, capsys):
    out = tmp_path / "run"
    smoke = ["--preset", "smoke", "--out", str(out)]
    for argv, said in (
        (["--out", str(out)], "no examples: give --data FILES"),
        ([*smoke, "--data", str(tmp_path / "none")], "none: no such file or folder"),
        (
            [*smoke, "--training.window", "4096"],
            "--training.window 4096 is longer than the model's 512 tokens",
        ),
        ([*smoke, "--max-new-tokens", "513"], "--max-new-tokens 513 is longer than the model's 512 tokens"),
        ([*smoke, "--training.micro-batch-rows", "4"], "do not divide over 8 devices"),
        ([*smoke, "--held-out", "10000"], "--held-out is 10000; it must be from 0 to 9,999"),
        ([*smoke, "--chat-template"], "--chat-template: needs --init, and --questions 0"),
        ([*smoke, "--questions", "-1"], "--questions is -1; it must be at least 0"),
        (["--preset", "paper", "--init", "None", "--data", __file__], "test_sft_7b.py: not of a kind"),
    ):
        assert said in error_line(script, capsys, *argv)
    assert not out.exists()


def test_a_model_that_does_not_fit(script, tmp_path, capsys):
    (tmp_path / "hf").mkdir()
    write_json(tmp_path / "hf/config.json", config_to_hf(DEEPSEEK_MATH_7B, "bfloat16"))
    (tmp_path / "a.jsonl").write_text('{"prompt": "q", "completion": "a"}\n')
    argv = [
        "--init",
        str(tmp_path / "hf"),
        "--data",
        str(tmp_path / "a.jsonl"),
        "--out",
        str(tmp_path / "run"),
    ]
    assert "GB on each of 8 devices" in error_line(script, capsys, *argv, "--mesh", "fsdp=8")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "rows, said",
    [
        (
            '{"question": "a", "answer": "b"}\n{"question": "a"}\n',
            "rows.jsonl:2: no question and answer in this row",
        ),
        ('{"question": "a", "answer": "b"}\n{"question": "a"\n', "rows.jsonl:2: not a row of JSON"),
        (
            '{"question": "a", "answer": ""}\n',
            "tokens (--training.window) in 1 files (1 skipped: no answer)",
        ),
        ('{"question": "a", "answer": "b"}\n', "--held-out 1 of 10,000 questions: none of these"),
    ],
)
def test_bad_data_ends_before_the_first_step(script, own, tmp_path, capsys, rows, said):
    (tmp_path / "rows.jsonl").write_text(rows)
    argv = [
        "--preset",
        "smoke",
        "--init",
        str(own[0]),
        "--data",
        str(tmp_path / "rows.jsonl"),
        "--workers",
        "0",
    ]
    assert said in error_line(script, capsys, *argv, "--out", str(tmp_path / "run"), "--held-out", "1")
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_the_papers_numbers_are_the_default(script):
    paper = script.PRESETS["paper"].training
    assert (paper.loop.steps, paper.batch_size, paper.window) == (500, 256, 4_096)
    assert (paper.optimizer.peak_lr, paper.optimizer.schedule) == (5e-5, "constant")
