"""compare_runs.py: where runs ended, how they differ, their curves on one page."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dsm_jax.place import open_place
from dsm_jax.run import CONFIG, MetricsWriter, write_json
from tests.experiments.scripts import error_line, load_script, run


@pytest.fixture(scope="module")
def script():
    return load_script("compare_runs")


def make_run(folder: Path, peak_lr: float, better: float) -> Path:
    folder.mkdir(parents=True)
    write_json(folder / CONFIG, {"training": {"peak_lr": peak_lr, "batch_size": 8}})
    with MetricsWriter(folder) as metrics:
        metrics.write(0, {"held_out/code/bits_per_byte": 2.0})  # before the first update
        for step in range(10, 310, 10):
            metrics.write(
                step, {"loss": 3.0 - better - step / 1000, "step_time": 0.5, "tokens_per_second": 200.0}
            )
            if step % 100 == 0:
                metrics.write(step, {"held_out/code/bits_per_byte": 2.0 - step / 1000 - better})
    return folder


def test_two_runs_side_by_side(script, tmp_path, capsys):
    first, second = make_run(tmp_path / "x/run", 1e-3, 0.0), make_run(tmp_path / "y/run", 3e-3, 0.5)
    run(script, first, second, "--out", tmp_path / "page.html")
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    # steps 210 to 300: 255 on average; the last of the held-out rows, at 300
    assert rows["loss"] == ["2.745", "2.245"]
    assert rows["held_out/code/bits_per_byte"] == ["1.7", "1.2"]
    assert rows["--training.peak-lr"] == ["0.001", "0.003"]
    assert "--training.batch-size" not in rows and "x/run" in out and "y/run" in out
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img") == 4 and "--training.peak-lr" in page


def test_curves_over_tokens_and_seconds(script, tmp_path):
    rows = script.rows_of(make_run(tmp_path / "run", 1e-3, 0.0))
    points = sys.modules["training_curves"].points
    assert points(rows, "loss", "step")[:2] == [(10.0, 2.99), (20.0, 2.98)]
    assert [x for x, _ in points(rows, "loss", "seconds")][:2] == [5.0, 10.0]
    assert [x for x, _ in points(rows, "held_out/code/bits_per_byte", "tokens")] == [0, 1e4, 2e4, 3e4]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "no runs: give the folders of two or more"),
        (["nowhere"], "nowhere: no metrics.jsonl there"),
        (["run", "run"], "a run is given twice"),
        (["run", "--out", "no/where/page.html"], "--out no/where/page.html: cannot be written"),
    ],
)
def test_mistakes_are_one_line(script, tmp_path, monkeypatch, capsys, argv, said):
    make_run(tmp_path / "run", 1e-3, 0.0)
    monkeypatch.chdir(tmp_path)
    assert said in error_line(script, capsys, *argv)


def test_a_run_in_another_place(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("dsm_jax.place.CACHE", tmp_path / "cache")
    first, url = make_run(tmp_path / "x", 1e-3, 0.0), (tmp_path / "bucket/y").as_uri()
    with open_place(url) as place:
        make_run(place.folder, 3e-3, 0.5)
    run(script, first, url, "--out", tmp_path / "page.html")
    rows = {
        line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()
    }
    assert rows["loss"] == ["2.745", "2.245"] and rows["--training.peak-lr"] == ["0.001", "0.003"]
