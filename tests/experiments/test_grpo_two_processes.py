"""experiments/grpo_7b.py in two processes: the files of one process, also when it is killed; a mistake ends both."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model import Model, load_hf, save_hf
from dsm_jax.model.params import init_params
from dsm_jax.run import read_json
from tests.experiments.scripts import load_script
from tests.processes import run_processes, start_processes, wait_for


@pytest.fixture(scope="module")
def script():
    return load_script("grpo_7b")


@pytest.fixture(scope="module")
def cache(script, tmp_path_factory) -> Path:
    """With a random model in the small one's place."""
    cache = tmp_path_factory.mktemp("cache")
    folder, small = script.small_sft_folder(script.replace(script.SMOKE, cache=cache)), script.SMOKE_MODEL
    load_script("small_model").make_tokenizer(small, [], folder / "tokenizer", 0)
    params = init_params(small.model, 0, single_device_mesh())
    save_hf(Model(small.model, params), folder, folder / "tokenizer/tokenizer.model")
    return cache


def command(cache: Path, out: Path, *words: str) -> list[str]:
    """Two updates, from rewards that are not all 0, with an evaluation before, between and after them."""
    known = [
        "experiments/grpo_7b.py",
        "--preset",
        "smoke",
        "--mesh",
        "--cache",
        str(cache),
        "--out",
        str(out),
    ]
    known += ["--grpo.loop.steps", "2", "--grpo.loop.stop-every", "1", "--eval-samples", "0"]
    return [*known, "--reward", "accuracy", "overlong", *words]


def rows_of(out: Path, pattern: str) -> dict[str, list[dict]]:
    return {file.name: [json.loads(line) for line in file.open()] for file in sorted(out.glob(pattern))}


@pytest.mark.slow
def test_two_killed_processes_go_on_and_end_as_one(cache, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "run"
    run_processes(command(cache, whole), 1)
    running = start_processes(command(cache, out), 2)
    wait_for(out / "checkpoints/1", running)
    for process in running:
        process.kill()
        process.communicate()
    assert not (out / "results.json").exists() and (out / "answers/greedy-000000.jsonl").exists()
    first, second = run_processes(command(cache, out), 2)
    assert "for transformers" in first[0] and not any(
        word in "".join(second) for word in ("reward", "evaluat")
    )
    for files in ("completions/*.jsonl", "answers/*.jsonl"):
        assert rows_of(out, files) == rows_of(whole, files) != {}
    ours, theirs = (read_json(run / "results.json") for run in (out, whole))
    assert ours.keys() == theirs.keys() and ours["evaluation"] == theirs["evaluation"]
    assert theirs["kl"] > 0
    for name in ("kl", "tokens", "steps"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-5)
    assert ours["reward"] == pytest.approx(theirs["reward"], rel=1e-5)
    assert {file.name for file in out.iterdir()} == {file.name for file in whole.iterdir()}
    for name in ("best", "model"):
        there, here = (load_hf(run / name).params["embed"] for run in (whole, out))
        np.testing.assert_allclose(here, there, atol=1e-5)


@pytest.mark.slow
def test_a_mistake_ends_both_with_one_line_each(cache, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "1?", "answer": "1"}\n{"question": "2?"}\n')
    words = command(cache, tmp_path / "run", "--prompts", str(file))
    for _, err in run_processes(words, 2, code=2):
        assert err.count("error: ") == err.count(f"{file}:2: no answer in this row") == 1
        assert "Traceback" not in err
    assert not (tmp_path / "run/config.json").exists()


def test_several_processes_do_not_make_the_small_model(script, tmp_path, monkeypatch):
    mesh, config = parse_mesh(), script.replace(script.SMOKE, cache=tmp_path)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="one process makes its small models"):
        script.check(config, script.find_model(config, mesh), mesh, judges=[])
