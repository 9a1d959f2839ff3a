import json
import os
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.event_file_writer import EventFileWriter

from dsm_jax import run
from dsm_jax.errors import Preempted, UserError


@dataclass(frozen=True)
class Inner:
    lr: float = 1e-3


@dataclass(frozen=True)
class Config:
    preset: str = "a"
    out_dir: Path = Path("x")
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner = field(default_factory=Inner)


def test_open_run_goes_on_with_the_same_configuration(tmp_path):
    run.open_run(tmp_path / "a/b", Config())
    before = (tmp_path / "a/b/config.json").read_bytes()
    run.open_run(tmp_path / "a/b", Config())
    assert (tmp_path / "a/b/config.json").read_bytes() == before
    assert json.loads(before) == {"preset": "a", "out_dir": "x", "sizes": [1, 2], "inner": {"lr": 1e-3}}


def test_open_run_names_the_differing_options(tmp_path):
    run.open_run(tmp_path, Config())
    with pytest.raises(UserError) as caught:
        run.open_run(tmp_path, Config(out_dir=Path("y"), inner=Inner(lr=2e-3)))
    message = str(caught.value)
    assert '--out-dir (there "x", now "y")' in message
    assert "--inner.lr (there 0.001, now 0.002)" in message
    assert "--sizes" not in message and "\n" not in message


def test_open_run_sees_an_option_that_one_side_lacks(tmp_path):
    run.open_run(tmp_path, Inner())
    with pytest.raises(UserError, match=r"--lr \(there 0.001, now absent\)"):
        run.open_run(tmp_path, Config())


def test_open_run_refuses_a_file_and_a_damaged_configuration(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--out"):
        run.open_run(tmp_path / "file", Config())
    (tmp_path / "config.json").write_text('{"preset": ')
    with pytest.raises(UserError, match="config.json"):
        run.open_run(tmp_path, Config())


def test_an_export_over_another_model_is_refused_also_when_the_run_goes_on(tmp_path):
    """A folder of the run's own, written whole or cut short, is not."""
    own, folder, other = (tmp_path / name for name in ("run", "export", "other"))
    run.open_run(own, Config())
    run.require_export_folder(folder, own)
    run.write_text(own / "metrics.jsonl", "")  # it has begun
    run.require_export_folder(folder, own)
    run.write_json(folder / "config.json", {})  # another run's, meanwhile
    for refused in (run.require_export_folder, run.claim_export_folder):
        with pytest.raises(UserError, match="export: a model is there already; give another folder"):
            refused(folder, own)
    run.claim_export_folder(other, own)
    run.require_export_folder(other, own)  # killed before it was whole
    run.write_json(other / "config.json", {})
    run.require_export_folder(other, own)  # and behind it


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    run.write_json(path, {"b": 1, "a": np.float32(0.5)})
    assert path.read_text() == '{\n "a": 0.5,\n "b": 1\n}\n'
    with pytest.raises(TypeError):
        run.write_json(path, {"a": object()})
    with pytest.raises(RuntimeError), run.atomic(path) as tmp:
        tmp.write_text("half")
        raise RuntimeError("killed")
    assert run.read_json(path) == {"a": 0.5, "b": 1}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe"])
def test_read_json_reports_damage(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.json"):
        run.read_json(tmp_path / "x.json")


def test_read_json_reports_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="missing"):
        run.read_json(tmp_path / "none.json")


def test_stage_markers(tmp_path):
    assert not run.is_done(tmp_path)
    run.mark_done(tmp_path, {"pages": 3})
    assert run.is_done(tmp_path)
    assert run.read_json(tmp_path / run.DONE) == {"pages": 3}


def test_metrics_resume_drops_rows_written_again_and_a_torn_line(tmp_path):
    with run.MetricsWriter(tmp_path) as metrics:
        for step in range(4):
            metrics.write(step, {"loss": np.float32(step), "text": "x"})
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step": 4, "lo')
    with run.MetricsWriter(tmp_path, resume_step=2) as metrics:
        for step in (2, 3):
            metrics.write(step, {"loss": np.float32(step), "text": "x"})
    assert path.read_bytes() == whole
    assert [row["loss"] for row in run.read_metrics(path)] == [0, 1, 2, 3]


def test_metrics_reach_tensorboard(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(EventFileWriter, "add_event", lambda self, event, *a, **k: seen.append(event))
    with run.MetricsWriter(tmp_path) as metrics:
        metrics.write(7, {"loss": 0.5, "text": "x"})
    scalars = [(e.step, v.tag, v.simple_value) for e in seen for v in e.summary.value]
    assert scalars == [(7, "loss", 0.5)]


def test_damage_inside_metrics_is_reported(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"st\n{"step": 2}\n')
    with pytest.raises(UserError, match="line 2"):
        run.MetricsWriter(tmp_path, resume_step=3)


def test_sigterm_is_held_back_and_then_answered():
    before = signal.getsignal(signal.SIGTERM)
    steps = []
    with pytest.raises(Preempted), run.catch_sigterm() as sigterm:
        for step in range(5):
            steps.append(step)
            if step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            if sigterm.requested:
                break
    assert steps == [0, 1, 2]
    assert signal.getsignal(signal.SIGTERM) is before


def test_catch_sigterm_without_a_signal_and_outside_the_main_thread():
    seen = []

    def work():
        with run.catch_sigterm() as sigterm:
            seen.append(sigterm.requested)

    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False, False]


def test_progress_in_a_log_is_plain_lines(capsys, monkeypatch):
    monkeypatch.setattr(run, "PLAIN_INTERVAL_S", 0.0)
    with run.progress(4, "count") as bar:
        bar.advance(note="loss 1.0")
        bar.advance(3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("count: 1/4, 0 s") and lines[0].endswith("loss 1.0") and "left" in lines[0]
    assert lines[-1] == "count: 4/4, 0 s"


def test_progress_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with run.progress(None, "count [x]", done=5) as bar:
        bar.advance(2, note="[a]")
    assert bar.done == 7
    assert "count [x]" in capsys.readouterr().err
