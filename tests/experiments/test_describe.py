"""experiments/describe.py: what it prints adds up, on meshes that are not here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model.hf_cases import GQA

SCRIPT = Path(__file__).parents[2] / "experiments" / "describe.py"


def describe(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *options], capture_output=True, text=True, check=False)


def test_the_7b_on_eight_devices():
    out = describe("--preset", "deepseek_math_7b", "--mesh", "fsdp=8").stdout
    assert "6.91B parameters on 8 devices (data 1, fsdp 8, tensor 1); on each:" in out
    each = sum(
        int(line.split()[-1].replace(",", ""))
        for line in out.splitlines()
        if line.count(",") > 2 and " x " in line
    )
    assert abs(each - 2 * 6.91e9 / 8) < 0.001 * each  # norms are whole
    assert "13.824 GB  training" in out  # 6.91e9 parameters, four numbers of four bytes, over 8
    assert "0.492 GB  keys and values" in out  # 2 x 30 layers x 32 heads x 128 x 2 bytes


def test_lora_trains_little():
    out = describe("--preset", "deepseek_math_7b", "--mesh", "fsdp=8", "--model.lora.rank", "16").stdout
    training = next(float(line.split()[0]) for line in out.splitlines() if "training" in line)
    assert 6.91 * 4 / 8 < training < 6.91 * 4 / 8 + 0.5  # the base, and four times the little that trains
    assert "layers.down_lora_a" in out


def test_a_folder_and_other_numbers(tmp_path):
    ended = describe("--init", str(tmp_path), "--model.n-layers", "99")
    assert ended.returncode == 2 and "--init and --model" in ended.stderr


def test_a_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(GQA))
    out = describe("--init", str(tmp_path), "--mesh", "data=2,tensor=2").stdout
    assert "on 4 devices (data 2, fsdp 1, tensor 2)" in out and "3 x 64 x 2 x 16" in out


@pytest.mark.parametrize(
    "mesh, said",
    [
        ("fsdp=3", "does not divide the model's d_model 4096"),
        ("fsdp=-1", "give the size of fsdp"),
        ("pipeline=2", "no axis"),
    ],
)
def test_a_mesh_that_does_not_fit(mesh, said):
    ended = describe("--preset", "deepseek_math_7b", "--mesh", mesh)
    assert ended.returncode == 2 and said in ended.stderr and ended.stderr.count("\n") == 1
