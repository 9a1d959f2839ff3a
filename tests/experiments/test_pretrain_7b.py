"""pretrain_7b.py: it learns, resumes, exports, and says in one line what is wrong before any work."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from dsm_jax.errors import Preempted
from dsm_jax.model import load_hf
from dsm_jax.model.config import DEEPSEEK_MATH_7B
from dsm_jax.model.hf_config import config_to_hf
from dsm_jax.run import read_json, read_metrics, write_json
from dsm_jax.tokenizer import load_tokenizer
from tests.experiments.scripts import error_line, load_script, run


@pytest.fixture(scope="module")
def script():
    return load_script("pretrain_7b")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    file = tmp_path_factory.mktemp("source") / "rows.jsonl"
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 4)) for _ in range(300)]
    texts = (f"{' '.join(rng.choice(words, 3))}: {n} and {n} make {2 * n}." for n in range(1500))
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return file


def test_a_run_its_results_and_its_second_start(script, source, tmp_path, capsys):
    argv = [
        "--preset",
        "smoke",
        "--out",
        str(tmp_path / "run"),
        "--sources.math-corpus",
        str(source),
        "--workers",
        "0",
    ]
    run(script, *argv, "--mesh", "fsdp=4,tensor=2", "--held-out", "400")
    results = read_json(tmp_path / "run/results.json")
    held, unigram = (results[name]["math_corpus"]["bits_per_byte"] for name in ("held_out", "unigram"))
    assert held < 0.85 * unigram
    page = (tmp_path / "run/report.html").read_text()
    assert f"{held:.3f}" in page and page.count("<img") >= 7 and "--training.loop.steps" in page
    rows = [
        row
        for row in read_metrics(tmp_path / "run/metrics.jsonl")
        if "held_out/math_corpus/bits_per_byte" in row
    ]
    assert rows[-1]["held_out/math_corpus/bits_per_byte"] == pytest.approx(held, rel=1e-5)
    model, tokenizer = load_hf(tmp_path / "run/model"), load_tokenizer(tmp_path / "run/model")
    logits = np.asarray(model.logits([[tokenizer.bos_id, *tokenizer.encode("Number 7 and")]]))[0]
    assert np.isfinite(logits).all() and logits.std() > 0.5
    capsys.readouterr()
    run(script, *argv, "--mesh", "data=2,fsdp=2,tensor=2", "--held-out", "400")
    again = read_json(tmp_path / "run/results.json")
    assert again["unigram"] == results["unigram"]
    assert again["held_out"]["math_corpus"]["bits_per_byte"] == pytest.approx(held, rel=1e-5)
    assert "holds a run of another configuration" in error_line(script, capsys, *argv, "--rng-seed", "1")


def test_mistakes_are_found_before_any_work(script, source, tmp_path, capsys):
    out = tmp_path / "run"
    smoke = ["--preset", "smoke", "--out", str(out)]
    for argv, said in (
        (["--out", str(out)], "no source: give at least one of --sources.math-corpus"),
        ([*smoke, "--sources.arxiv", str(tmp_path / "none")], "none: no such file or folder"),
        (
            [*smoke, "--training.window", "4096"],
            "--training.window 4096 is longer than the model's 512 tokens",
        ),
        (
            [*smoke, "--training.micro-batch-rows", "3"],
            "micro_batch_rows is 3; it must divide the batch_size 16",
        ),
        (
            [*smoke, "--training.micro-batch-rows", "4"],
            "4 rows at once (micro_batch_rows) do not divide over 8 devices",
        ),
        ([*smoke, "--held-out", "0"], "--held-out must be from 1 to 9,999"),
        (
            [*smoke, "--sources.arxiv", str(source), "--weights.arxiv", "0"],
            "--weights of the sources given (arxiv 0.0): none may be negative",
        ),
        ([*smoke, "--training.optimizer.warmup-steps", "19"], "19 warmup_steps do not end before"),
        (
            ["--preset", "paper", "--init", "None", "--sources.arxiv", str(source)],
            "--init: this preset has no model of its own",
        ),
    ):
        assert said in error_line(script, capsys, *argv)
    assert not out.exists()


def test_a_model_that_does_not_fit(script, source, tmp_path, capsys):
    (tmp_path / "hf").mkdir()
    write_json(tmp_path / "hf/config.json", config_to_hf(DEEPSEEK_MATH_7B, "bfloat16"))
    argv = ["--init", str(tmp_path / "hf"), "--sources.arxiv", str(source), "--out", str(tmp_path / "run")]
    said = error_line(script, capsys, *argv, "--mesh", "fsdp=8")
    # 6.91e9 parameters, two moments, the gradients' sum and a micro-batch's own in fp32, over 8 devices
    assert "GB on each of 8 devices (master 3.46, moments 6.91, gradients 6.91, activations" in said
    assert not (tmp_path / "run").exists()


def test_a_bad_row_is_named(script, tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n{"txt": "b"}\n')
    argv = [
        "--preset",
        "smoke",
        "--out",
        str(tmp_path / "run"),
        "--sources.arxiv",
        str(file),
        "--workers",
        "0",
    ]
    assert "rows.jsonl:2: no text in this row" in error_line(script, capsys, *argv)


def test_too_little_held_out_text_is_told_by_its_source_when_it_is_tokenised(
    script, source, tmp_path, capsys
):
    (tmp_path / "a.txt").write_text("One text.")
    argv = ["--preset", "smoke", "--out", str(tmp_path / "run"), "--workers", "0", "--stage", "tokenize"]
    argv += [
        "--sources.math-corpus",
        str(source),
        "--sources.arxiv",
        str(tmp_path / "a.txt"),
        "--held-out",
        "100",
    ]
    said = error_line(script, capsys, *argv)
    assert "--held-out 100 of 10,000 documents: none of the 1 of --sources.arxiv; hold out more, or" in said


@pytest.mark.slow
def test_a_run_starts_from_another_run_and_exports(script, source, tmp_path, capsys):
    """From its newest checkpoint, or from a named one: the first loss is what those parameters have."""
    smoke = ["--preset", "smoke", "--sources.math-corpus", str(source), "--workers", "0", "--held-out", "400"]
    smoke += ["--training.loop.checkpoint-every", "10", "--windows", str(tmp_path / "windows")]
    first = ["--out", str(tmp_path / "first"), "--export", str(tmp_path / "exported")]
    run(script, *smoke, *first)
    assert not (tmp_path / "first/model").exists() and not (tmp_path / "first/windows").exists()
    expected = load_hf(tmp_path / "exported").params
    for init, equal in (("first", True), ("first/checkpoints/20", True), ("first/checkpoints/10", False)):
        start = script.find_start(str(tmp_path / init), script.parse_mesh("fsdp=4,tensor=2"), own=None)
        own = tmp_path / "first/tokenizer/tokenizer.model"
        assert load_tokenizer(start.tokenizer()).fingerprint == load_tokenizer(own).fingerprint
        found = start.params(script.parse_mesh("fsdp=4,tensor=2"), 0)
        same = [np.array_equal(found[name], expected[name]) for name in ("embed", "head")]
        assert same == [equal, equal]
    again = [*smoke, "--out", str(tmp_path / "second"), "--init", str(tmp_path / "first")]
    assert "a model is there already" in error_line(
        script, capsys, *again, "--export", str(tmp_path / "exported")
    )
    run(script, *again)
    ends = [
        read_json(tmp_path / name / "results.json")["held_out"]["math_corpus"] for name in ("first", "second")
    ]
    assert ends[1]["bits_per_byte"] < ends[0]["bits_per_byte"]
    lora = [
        *smoke,
        "--init",
        str(tmp_path / "first"),
        "--training.lora.rank",
        "2",
        "--out",
        str(tmp_path / "lora"),
    ]
    run(script, *lora)
    for init, said in (
        ("first/checkpoints/15", "no such checkpoint"),
        ("first/checkpoints/model", "model.safetensors is missing"),
        ("lora", "of a run with LoRA give the folder that it exported"),
        ("nowhere", "no such folder"),
    ):
        assert said in error_line(script, capsys, *smoke, "--init", str(tmp_path / init))


@pytest.mark.slow
def test_tokenising_can_go_first(script, source, tmp_path, capsys):
    smoke = ["--preset", "smoke", "--sources.math-corpus", str(source), "--workers", "0"]
    smoke += ["--out", str(tmp_path / "run"), "--windows", str(tmp_path / "windows")]
    run(script, *smoke, "--stage", "tokenize")
    made = {file: file.stat().st_mtime_ns for file in (tmp_path / "windows").rglob("*.array_record")}
    assert made and not (tmp_path / "run/metrics.jsonl").exists()
    run(script, *smoke, "--training.loop.steps", "25")  # which tokenising did not fix
    assert read_json(tmp_path / "run/results.json")["steps"] == 25
    assert made == {file: file.stat().st_mtime_ns for file in made}


@pytest.mark.slow
def test_a_run_in_another_place(script, source, tmp_path, monkeypatch):
    """A second machine ends what the first one began, and starts a run from it."""
    monkeypatch.setattr("dsm_jax.place.CACHE", tmp_path / "cache")
    url = (tmp_path / "bucket/run").as_uri()
    smoke = ["--preset", "smoke", "--sources.math-corpus", str(source), "--workers", "0", "--out", url]
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(script, "save_hf", lambda *_: (_ for _ in ()).throw(Preempted()))
        run(script, *smoke)
    assert end.value.code == 75
    shutil.rmtree(tmp_path / "cache")
    run(script, *smoke)
    bucket = tmp_path / "bucket/run"
    assert {"results.json", "report.html", "metrics-00001.jsonl", "config.json"} <= {
        path.name for path in bucket.iterdir()
    }
    assert (bucket / "model/model.safetensors").is_file() and (bucket / "checkpoints/20").is_dir()
    shutil.rmtree(tmp_path / "cache")
    start = script.find_start(url, script.parse_mesh("fsdp=8"), own=None)
    params = start.params(script.parse_mesh("fsdp=8"), 0)
    np.testing.assert_array_equal(params["embed"], load_hf(bucket / "model").params["embed"])


def test_a_run_goes_on_with_the_windows_it_began_with(script, source, tmp_path, capsys):
    file, rows = tmp_path / "rows.jsonl", source.read_text().splitlines(keepends=True)
    file.write_text("".join(rows))
    smoke = [
        "--preset",
        "smoke",
        "--sources.math-corpus",
        str(file),
        "--workers",
        "0",
        "--out",
        str(tmp_path / "run"),
    ]
    smoke += ["--held-out", "1000"]
    run(script, *smoke)
    shutil.rmtree(tmp_path / "run/checkpoints/20")
    file.write_text("".join(rows[:1000]))
    said = error_line(script, capsys, *smoke)
    assert "began with other windows of math_corpus: their files have changed since" in said
    file.write_text("".join(rows))
    run(script, *smoke, "--training.loop.keep", "5")  # an option that decides nothing


def test_a_mistake_before_the_first_update_leaves_no_configuration(script, tmp_path, capsys):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a"}\n{"txt": "b"}\n')
    smoke = [
        "--preset",
        "smoke",
        "--sources.arxiv",
        str(file),
        "--workers",
        "0",
        "--out",
        str(tmp_path / "run"),
    ]
    assert "rows.jsonl:2" in error_line(script, capsys, *smoke)
    assert not (tmp_path / "run/config.json").exists()
    other = error_line(script, capsys, *smoke, "--training.window", "32")
    assert "rows.jsonl:2" in other
