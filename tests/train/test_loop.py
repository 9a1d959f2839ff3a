"""The loop: resumed anywhere it ends in the same bits; SIGTERM saves; stop rules hold over restarts."""

import os
import signal
import sys
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dsm_jax.errors import Preempted, UserError
from dsm_jax.mesh import replicated, single_device_mesh
from dsm_jax.run import is_done, read_json, read_metrics
from dsm_jax.train.loop import LoopConfig, run_loop

STEPS = LoopConfig(steps=12, log_every=2, checkpoint_every=5)
TARGET = {"x": jax.ShapeDtypeStruct((3,), jnp.float32, sharding=replicated(single_device_mesh()))}


class Killed(Exception):
    """What ends a run at a step, as a kill would."""


def update(state: dict, step: int) -> tuple[dict, dict]:
    noise = jax.random.normal(jax.random.key(step), (3,))
    state = {"x": state["x"] * 0.9 + noise}
    return state, {"loss": jnp.sum(state["x"])}


def run(folder, *, config=STEPS, die_at=None, change=update, stop=None, at_start=None):
    def once(state, step):
        if step == die_at:
            raise Killed
        return change(state, step)

    start = lambda: {"x": jax.device_put(jnp.ones(3), TARGET["x"].sharding)}
    return run_loop(once, start, TARGET, config, folder, description="test", stop=stop, at_start=at_start)


def rows(folder):
    return [
        {name: value for name, value in row.items() if name != "step_time"}
        for row in read_metrics(folder / "metrics.jsonl")
    ]


@pytest.mark.parametrize("die_at", [0, 3, 5, 6, 10, 11])
def test_a_killed_run_ends_in_the_same_bits(tmp_path, die_at):
    whole = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", die_at=die_at)
    assert not is_done(tmp_path / "killed")
    np.testing.assert_array_equal(run(tmp_path / "killed")["x"], whole["x"])
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert [row["step"] for row in rows(tmp_path / "whole")] == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize("die_at", [0, 3, 6])
def test_what_training_starts_from_is_measured_once(tmp_path, die_at):
    """Also where it starts again, before the first checkpoint; a restart from one does not measure."""
    asked = []

    def at_start(state):
        asked.append(float(state["x"].sum()))
        return {"check": asked[-1]}

    with pytest.raises(Killed):
        run(tmp_path, die_at=die_at, at_start=at_start)
    run(tmp_path, at_start=at_start)
    assert asked == [3.0] * (1 if die_at == 6 else 2)
    first, *others = rows(tmp_path)
    assert first == {"step": 0, "check": 3.0} and [row["step"] for row in others] == [2, 4, 6, 8, 10, 12]


def test_a_finished_run_only_restores(tmp_path):
    whole = run(tmp_path)
    np.testing.assert_array_equal(run(tmp_path, die_at=12)["x"], whole["x"])
    assert read_json(tmp_path / "done.json") == {"step": 12, "stopped": False}


def test_a_finished_run_whose_last_checkpoint_is_damaged_trains_the_missing_steps(tmp_path):
    whole = run(tmp_path)
    for path in (tmp_path / "checkpoints" / "12").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    np.testing.assert_array_equal(run(tmp_path)["x"], whole["x"])


def test_sigterm_saves_the_step_and_the_same_command_goes_on(tmp_path):
    def terminated(state, step):
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(state, step)

    with pytest.raises(Preempted, match="saved at step 7"):
        run(tmp_path / "a", change=terminated)
    after = run(tmp_path / "a", die_at=6)  # step 6 is not repeated
    np.testing.assert_array_equal(after["x"], run(tmp_path / "b")["x"])


def test_the_stop_rule_ends_the_run_where_it_would_have_without_a_kill(tmp_path):
    config = LoopConfig(steps=12, log_every=2, checkpoint_every=4, stop_every=4)

    def stop(state, step):
        return step == 8, {"check": float(state["x"][0])}

    ended = run(tmp_path / "a", config=config, stop=stop)
    assert read_json(tmp_path / "a" / "done.json") == {"step": 8, "stopped": True}
    with pytest.raises(Killed):
        run(tmp_path / "b", config=config, stop=stop, die_at=7)
    np.testing.assert_array_equal(run(tmp_path / "b", config=config, stop=stop)["x"], ended["x"])
    assert rows(tmp_path / "a") == rows(tmp_path / "b")


def test_a_loss_that_is_not_finite_stops_with_one_line(tmp_path):
    def broken(state, step):
        return state, {"loss": jnp.float32(np.nan if step == 7 else 1.0)}

    with pytest.raises(UserError, match="step 8: the loss is nan"):
        run(tmp_path, change=broken)
    assert (tmp_path / "checkpoints" / "5").exists()


def test_a_gradient_that_is_not_finite_is_never_saved(tmp_path):
    def broken(state, step):
        return {"x": state["x"] * np.nan}, {"loss": jnp.float32(1.0), "grad_norm": jnp.float32(np.inf)}

    quiet = LoopConfig(steps=12, log_every=12, checkpoint_every=5)
    with pytest.raises(UserError, match="step 1: the grad_norm is inf"):
        run(tmp_path, change=broken, config=quiet)
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"log_every": 0}, {"checkpoint_every": 0}, {"stop_every": -1}]
)
def test_a_loop_of_wrong_numbers_is_one_line(wrong):
    with pytest.raises(UserError, match=f"loop: {next(iter(wrong))} is"):
        LoopConfig(**({"steps": 5} | wrong))


def test_updates_are_traced(tmp_path):
    run(tmp_path, config=LoopConfig(steps=6, checkpoint_every=6, profile_at=3))
    (trace,) = (tmp_path / "trace").rglob("*.xplane.pb")
    assert trace.stat().st_size > 0


def test_a_trace_at_the_end_is_written_too(tmp_path):
    run(tmp_path, config=LoopConfig(steps=6, checkpoint_every=6, profile_at=6))
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


def test_checkpoints_of_every_so_many_steps_stay(tmp_path):
    run(tmp_path, config=LoopConfig(steps=12, checkpoint_every=2, keep=1, keep_every=4))
    kept = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit())
    assert kept == [4, 8, 12]
    with pytest.raises(UserError, match="keep_every is 3; it must be a multiple of checkpoint_every 2"):
        LoopConfig(steps=12, checkpoint_every=2, keep_every=3)


def test_weights_and_biases_get_the_rows_too(tmp_path, monkeypatch):
    """A restart goes on with the same run there."""
    logged, begun = [], []

    class FakeRun:
        def log(self, numbers, step):
            logged.append((step, numbers["loss"]))

        def finish(self):
            logged.append("end")

    def init(**options):
        begun.append(options)
        return FakeRun()

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, __spec__=object()))
    config = LoopConfig(steps=12, log_every=2, checkpoint_every=5, wandb="maths")
    with pytest.raises(Killed):
        run(tmp_path, config=config, die_at=7)
    run(tmp_path, config=config)
    losses = [(row["step"], row["loss"]) for row in read_metrics(tmp_path / "metrics.jsonl")]
    assert logged == [*losses[:3], "end", *losses[2:], "end"]
    assert (
        begun[0]["project"] == "maths" and begun[0]["id"] == begun[1]["id"] and begun[1]["resume"] == "allow"
    )


def test_weights_and_biases_that_are_not_here_are_missed_at_once():
    with pytest.raises(
        UserError, match="wandb is maths, and the package is not installed; pip install wandb"
    ):
        LoopConfig(steps=12, wandb="maths")


def test_a_row_s_seconds_are_those_of_its_updates(tmp_path):
    """Not those of the stop rule; at_row is told these seconds."""
    asked = []

    def slow(state, step):
        time.sleep(0.3)
        return False, {}

    def at_row(seconds):
        asked.append(seconds)
        return {"waited": float(len(asked))}

    config = LoopConfig(steps=12, log_every=4, checkpoint_every=12, stop_every=2)
    start = lambda: {"x": jax.device_put(jnp.ones(3), TARGET["x"].sharding)}
    run_loop(update, start, TARGET, config, tmp_path, description="test", stop=slow, at_row=at_row)
    rows = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "step_time" in row]
    assert [row["waited"] for row in rows] == [1, 2, 3]
    assert asked == pytest.approx([4 * row["step_time"] for row in rows])
    assert all(row["step_time"] < 0.1 for row in rows[1:])  # the first compiles


def test_a_row_has_what_only_one_of_its_updates_had(tmp_path):
    def seldom(state, step):
        state, measured = update(state, step)
        return state, measured | ({} if step % 2 else {"once": float(step)})

    run(tmp_path, change=seldom)
    assert [row["once"] for row in rows(tmp_path)] == [0, 2, 4, 6, 8, 10]


def test_nothing_but_left_out_updates_ends_the_run(tmp_path):
    def skipped(state, step):
        return state, {"loss": jnp.float32(np.nan), "skipped": jnp.bool_(True)}

    with pytest.raises(UserError, match="step 100: the last 100 updates were all left out"):
        run(tmp_path, change=skipped, config=LoopConfig(steps=200, checkpoint_every=200))


def test_the_first_ctrl_c_saves_the_step(tmp_path, capfd):
    def interrupted(state, step):
        if step == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return update(state, step)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="saved at step 7"):
        run(tmp_path / "a", change=interrupted)
    assert (
        "again Ctrl-C stops at once" in capfd.readouterr().err and signal.getsignal(signal.SIGINT) == before
    )
    np.testing.assert_array_equal(run(tmp_path / "a", die_at=6)["x"], run(tmp_path / "b")["x"])
