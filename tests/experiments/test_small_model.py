"""The stop rule of the small model's SFT: every number of it counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import single_device_mesh

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def small_model(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    import small_model

    return small_model


@pytest.fixture
def stops(small_model, monkeypatch):
    """Whether SFT stops when of each family these shares are right, and this share of all answers is boxed."""

    def check(shares: dict[str, float], boxed: float = 1.0) -> bool:
        config = replace(small_model.TINY_MODEL, sft_checks=200)
        monkeypatch.setattr(small_model, "Sampler", lambda *_, **__: None)
        rule = small_model.StopRule(config, None, single_device_mesh(), 0)
        answers, seen = [], dict.fromkeys(shares, 0)
        counts = {family: sum(p.family == family for p in rule.problems) for family in shares}
        for i, problem in enumerate(rule.problems):
            right = seen[problem.family] < shares[problem.family] * counts[problem.family]
            seen[problem.family] += 1
            text = f"\\boxed{{{problem.answer if right else 'no'}}}" if right or i < boxed * 200 else "no"
            answers.append([SimpleNamespace(text=text, finished=True, error="")])
        rule.sampler = SimpleNamespace(load=lambda params: None, generate=lambda *_, **__: answers)
        return rule(None, 10)[0]

    return check


def shares(small_model, **changes: float) -> dict[str, float]:
    return dict.fromkeys(small_model.TINY_MODEL.families, 0.6) | changes


def test_it_stops_when_every_number_is_reached(small_model, stops):
    assert stops(shares(small_model))
    assert not stops(dict.fromkeys(small_model.TINY_MODEL.families, 0.2))
    assert not stops(shares(small_model, rates=0.0))
    assert not stops(shares(small_model), boxed=0.9)


@pytest.mark.parametrize("name", ["sft_stop", "sft_stop_family", "sft_stop_boxed"])
def test_shares_are_shares(small_model, name):
    with pytest.raises(UserError, match=f"--small.{name.replace('_', '-')} is 1.5; it must be from 0 to 1"):
        replace(small_model.TINY_MODEL, **{name: 1.5})


def test_a_family_without_checks_is_named(small_model):
    with pytest.raises(UserError, match="none of them is of "):
        small_model.StopRule(replace(small_model.TINY_MODEL, sft_checks=2), None, single_device_mesh(), 0)
