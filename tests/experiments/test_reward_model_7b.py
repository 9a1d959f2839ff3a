"""reward_model_7b.py: it learns, resumes, exports what grades solutions, and says in one line what is wrong, before work."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from dsm_jax.model import load_hf
from dsm_jax.rl.reward_model.folder import load_reward_model
from dsm_jax.run import read_json, read_metrics
from tests.experiments.killed import kill_twice
from tests.experiments.scripts import error_line, load_script, run
from tests.rl.steps.labelled_file import write_labelled

SHORT = (
    "--training.loop.steps",
    "4",
    "--training.loop.stop-every",
    "2",
    "--training.optimizer.warmup-steps",
    "1",
)


@pytest.fixture(scope="module")
def script():
    return load_script("reward_model_7b")


@pytest.fixture(scope="module")
def own(script, tmp_path_factory):
    """A run on the generator's solutions, by a process reward model of two tokens."""
    out = tmp_path_factory.mktemp("own") / "run"
    argv = ["--preset", "smoke", "--out", str(out)]
    run(script, *argv)
    return out, argv


@pytest.fixture(scope="module")
def labels(script, tmp_path_factory):
    """A file of labelled solutions."""
    file = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    write_labelled(file, script.generated(100, 7))
    return file


def test_a_run_and_its_results(own):
    out, _ = own
    results = read_json(out / "results.json")
    counts = results["examples"]
    assert counts["solutions"] + counts["held_out_solutions"] + counts["too_long"] == 600
    assert counts["too_long"] < 10
    assert results["held_out"]["solutions"] == counts["held_out_solutions"] > 10
    rows = [row for row in read_metrics(out / "metrics.jsonl") if "held_out/process/bce" in row]
    assert [row["step"] for row in rows] == [10, 20]
    assert results["last"] == {name: pytest.approx(rows[-1][name], rel=1e-5) for name in results["last"]}
    assert rows[-1]["held_out/process/auc"] == pytest.approx(results["held_out"]["auc"]["value"], abs=0.01)
    page = (out / "report.html").read_text()
    assert "AUC within a solution" in page and "Calibration: share of right steps" in page
    assert "Held-out solutions: binary cross-entropy" in page


def test_the_exported_model_scores_what_was_held_out(own, script):
    out, _ = own
    model = load_reward_model(out / "model")
    rows = list(script.generated(20, 0))
    found = model.score([one.prompt for one in rows], [one.completion for one in rows])
    assert [len(one) for one in found] == [len(one.labels) for one in rows]
    assert np.concatenate(found).std() > 0.01
    assert load_hf(out / "model").config == model.config


def test_a_second_start_and_another_configuration(own, script, capsys):
    out, argv = own
    before, model = read_json(out / "results.json"), (out / "model/model.safetensors").read_bytes()
    run(script, *argv, "--mesh", "data=2,fsdp=2,tensor=2")
    after = read_json(out / "results.json")
    assert after["examples"] == before["examples"]
    assert after["held_out"]["auc"]["value"] == pytest.approx(before["held_out"]["auc"]["value"], abs=1e-3)
    assert (out / "model/model.safetensors").read_bytes() == model
    assert "--problems (there 300, now 5)" in error_line(script, capsys, *argv, "--problems", "5")


@pytest.mark.slow
def test_an_outcome_model_with_a_scalar_head_goes_on_from_a_run(own, script, labels, tmp_path):
    argv = ["--preset", "smoke", "--init", str(own[0]), "--data", str(labels), "--held-out", "2000"]
    run(script, *argv, "--kind", "outcome", "--head", "scalar", "--out", str(tmp_path / "run"), *SHORT)
    results = read_json(tmp_path / "run/results.json")
    assert results["examples"]["scores"] == results["examples"]["solutions"] > 100
    assert results["held_out"]["auc_within"] is None and results["held_out"]["steps"] > 10
    model = load_reward_model(tmp_path / "run/model")
    assert model.form.kind == "outcome" and model.form.readout.minus is None
    assert [len(one) for one in model.score(["q", "q"], [" a\nb", ""])] == [1, 1]


@pytest.mark.slow
def test_a_scalar_head_that_has_learned_goes_on(own, script, labels, tmp_path):
    """At a learning rate of nearly nothing the second model says what the first one does, from its folder and its run."""
    first, small = tmp_path / "first", ("--training.optimizer.peak-lr", "1e-12")
    argv = ["--preset", "smoke", "--data", str(labels), "--held-out", "2000", "--head", "scalar", *SHORT]
    run(script, *argv, "--init", str(own[0] / "model"), "--out", str(first))
    before = load_reward_model(first / "model").score(["q"], [" 1+2=3\n3+4=8"], scale="logit")[0]
    assert np.abs(before).min() > 1e-3
    for number, init in enumerate((first, first / "model", first / "checkpoints/4")):
        out = tmp_path / str(number)
        run(script, *argv, *small, "--init", str(init), "--out", str(out))
        after = load_reward_model(out / "model").score(["q"], [" 1+2=3\n3+4=8"], scale="logit")[0]
        np.testing.assert_allclose(after, before, atol=1e-5)


@pytest.mark.slow
def test_lora_and_a_tag_on_math_shepherds_records(own, script, tmp_path):
    marks = [("+", "+"), ("+", "-"), ("-", "-")]
    with (tmp_path / "ms.jsonl").open("w") as file:
        for number in range(60):
            text = f"What is {number}+1? Step 1: {number}+1={number + 1} {{}}\nStep 2: The answer is: {number + 1} {{}}"
            row = {
                "input": text.format("ки", "ки"),
                "label": text.format(*marks[number % 3]),
                "task": "GSM8K",
            }
            file.write(json.dumps(row) + "\n")
    argv = [
        "--preset",
        "smoke",
        "--init",
        str(own[0]),
        "--data",
        str(tmp_path / "ms.jsonl"),
        "--step-tag",
        " ки",
    ]
    run(
        script,
        *argv,
        "--training.lora.rank",
        "4",
        "--held-out",
        "2000",
        "--out",
        str(tmp_path / "run"),
        *SHORT,
    )
    results, form = read_json(tmp_path / "run/results.json"), load_reward_model(tmp_path / "run/model").form
    assert results["examples"]["scores"] == 2 * results["examples"]["solutions"]
    assert form.step_tag == " ки" and form.readout.minus is not None


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--preset", "paper", "--init", "{model}"), "no solutions: give --data FILES"),
        (("--data", "{missing}"), "missing.jsonl"),
        (("--held-out", "10000"), "--held-out is 10000"),
        (("--epochs", "-1"), "--epochs is -1"),
        (("--most-held-out", "0"), "--most-held-out is 0"),
        (("--plus", "nothing"), "--plus nothing: the tokenizer has no single token for it"),
        (("--plus", "-"), "plus and minus are both token"),
        (("--step-tag", ""), "step_tag is empty"),
        (("--training.window", "8"), "no labelled solution of up to 8 tokens"),
        (("--training.window", "1024"), "--training.window 1024 is longer than the model's 512 tokens"),
        (("--training.z-loss", "0.1"), "--training.z-loss is 0.1"),
        (("--head", "scalar", "--training.lora.rank", "4"), "LoRA trains no output column"),
        (
            ("--data", "{one_class}", "--init", "{model}"),
            "all 2 labels are 1: a reward model learns nothing from one class",
        ),
    ],
)
def test_mistakes_are_one_line_and_leave_no_run(script, own, labels, tmp_path, capsys, argv, said):
    one = next(iter(script.generated(1, 0)))
    write_labelled(tmp_path / "one.jsonl", [replace(one, completion=" a\nb", ends=(2, 4), labels=(1.0, 1.0))])
    places = {
        "model": own[0] / "model",
        "missing": tmp_path / "missing.jsonl",
        "one_class": tmp_path / "one.jsonl",
    }
    words = [str(word).format(**places) for word in argv]
    preset = () if "--preset" in words else ("--preset", "smoke")
    assert said in error_line(script, capsys, *preset, *words, "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run/config.json").exists()


def test_other_data_under_a_run_is_refused(script, labels, tmp_path, capsys):
    file = tmp_path / "labels.jsonl"
    file.write_bytes(labels.read_bytes())
    argv = [
        "--preset",
        "smoke",
        "--data",
        str(file),
        "--held-out",
        "2000",
        "--out",
        str(tmp_path / "run"),
        *SHORT,
    ]
    run(script, *argv)
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-5]))
    assert "began with other windows of solutions" in error_line(script, capsys, *argv)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_killed_runs_end_in_the_same_bytes(tmp_path):
    files = ["results.json", "model/model.safetensors", "model/reward_model.json"]
    command = ["experiments/reward_model_7b.py", "--preset", "smoke", "--out", "{out}"]
    kill_twice(tmp_path, command, compare=files, writes="orbax-checkpoint")


def test_steps_that_were_labelled_elsewhere_are_refused(own, script, capsys, tmp_path):
    """A model that has learned at the ends of sentences is not to be read at the ends of lines."""
    rows = [
        {"prompt": f"{i}?", "completion": " One. Two.", "ends": [5, 10], "labels": [1, 0]} for i in range(20)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["--preset", "smoke", "--init", str(own[0]), "--data", str(file), "--out", str(tmp_path / "run")]
    said = "--splitting lines cuts 0 of the first 20 solutions where they were labelled, sentences 20"
    assert said in error_line(script, capsys, *given)
    assert not (tmp_path / "run/config.json").exists()
    rows = [row | {"ends": [3, 10]} for row in rows]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    script.require_splitting(replace(script.SMOKE_RUN, data=(file,)))
    assert "the model will be read at other places" in capsys.readouterr().err
    script.require_splitting(replace(script.SMOKE_RUN, data=(file,), kind="outcome"))
    assert not capsys.readouterr().err
