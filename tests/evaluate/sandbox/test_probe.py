"""The report names each layer, and what is enough is decided by the layers, not by where they come from."""

import itertools
import subprocess
import sys

import pytest

from dsm_jax.evaluate.sandbox import SandboxReport, probe
from dsm_jax.evaluate.sandbox.confinement import LAYERS, is_enough


def missing(*names):
    return {layer: "why not" if layer in names else "" for layer in LAYERS}


def test_each_layer_has_a_line_of_its_own():
    report = probe()
    lines = str(report).splitlines()
    assert [line.split("  ")[0] for line in lines[:-1]] == list(LAYERS)
    assert report.isolated == lines[-1].startswith("programs run isolated")
    assert all(
        ("missing: " in line) == bool(why) for line, why in zip(lines, report.missing.values(), strict=False)
    )


def test_what_is_missing_is_said_with_a_remedy():
    text = str(SandboxReport(missing("landlock", "files"), bubblewrap=False))
    assert "landlock   missing: why not" in text
    assert text.splitlines()[-1].startswith(
        "error: this machine cannot isolate programs (files: why not; landlock: why not): "
    )


@pytest.mark.parametrize("lost", [*itertools.combinations(LAYERS, 1), *itertools.combinations(LAYERS, 2), ()])
def test_seccomp_rights_limits_and_one_layer_around_files_are_needed(lost):
    needed = {"seccomp", "rights", "limits"}
    assert is_enough(missing(*lost)) == (not needed & set(lost) and not {"files", "landlock"} <= set(lost))


def test_the_command_prints_the_report():
    done = subprocess.run(
        [sys.executable, "-m", "dsm_jax.evaluate.sandbox"], capture_output=True, text=True, check=False
    )
    assert done.returncode == (0 if probe().isolated else 2)
    assert done.stdout.startswith("user ")
    assert done.stderr == ""
