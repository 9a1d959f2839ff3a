"""Alarms ring when they should, once."""

import pytest

from dsm_jax.rl.alarms import ALARMS, AlarmOptions, Alarms

CALM = {
    "reward": 0.5,
    "reward_std": 0.3,
    "frac_reward_zero_std": 0.2,
    "kl": 0.01,
    "entropy": 0.5,
    "sampling/sampling_logp_difference/mean": 1e-6,
    "completions/clipped_ratio": 0.1,
}
LOUD = {
    "all_zero": {"reward": 0.0, "reward_std": 0.0, "frac_reward_zero_std": 1.0},
    "no_spread": {"reward": 1.0, "reward_std": 0.0, "frac_reward_zero_std": 1.0},
    "kl": {"kl": 3.0},
    "entropy": {"entropy": 0.01},
    "ratio": {"sampling/sampling_logp_difference/mean": 0.2},
    "truncated": {"completions/clipped_ratio": 0.9},
}


def test_a_calm_run_is_silent(capsys):
    alarms = Alarms(AlarmOptions())
    assert alarms(1, CALM) == alarms(2, CALM) == {}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ALARMS)
def test_each_rings_alone_and_says_it_once(name, capsys):
    alarms = Alarms(AlarmOptions(), first=CALM)
    assert alarms(3, CALM | LOUD[name]) == alarms(4, CALM | LOUD[name]) == {f"alarm/{name}": 1.0}
    assert capsys.readouterr().err.count("alarm at update 3") == 1
    assert alarms(5, CALM) == {}
    assert alarms(14, CALM | LOUD[name]) == {f"alarm/{name}": 1.0}  # it comes and goes
    assert capsys.readouterr().err == ""
    assert alarms(25, CALM | LOUD[name]) == {f"alarm/{name}": 1.0}
    assert "alarm at update 25" in capsys.readouterr().err
