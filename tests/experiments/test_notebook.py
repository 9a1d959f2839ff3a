"""The notebook and the README's example of GRPO run as printed, at smoke size."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "experiments/colab_quickstart.ipynb"


def test_the_notebook_is_kept_without_outputs():
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert all(
        not cell.outputs and cell.execution_count is None for cell in cells if cell.cell_type == "code"
    )


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    """In a kernel of its own, on one device."""
    for name in ("dsm_jax", "experiments"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("DSM_SIZE", "smoke")
    monkeypatch.setenv("XLA_FLAGS", "")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    said = "".join(output.get("text", "") for output in outputs)
    assert re.search(r"before: [\d.]+% of 200 .*\nafter: [\d.]+% of 200", said)
    assert (tmp_path / "runs/colab/smoke-grpo/model/config.json").exists()


def readme_example() -> str:
    """The indented block of the README that calls train_grpo."""
    blocks = re.findall(r"(?:^    .*\n|^\n)+", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    (block,) = [block for block in blocks if "train_grpo(" in block]
    return "\n".join(line[4:] for line in block.strip("\n").splitlines())


def test_the_example_is_short():
    lines = [line for line in readme_example().splitlines() if line.strip()]
    assert len(lines) <= 20


@pytest.mark.slow
def test_the_example_runs(tmp_path):
    """After the command that stands before it, which leaves runs/grpo_smoke/model."""
    environment = os.environ | {"XLA_FLAGS": ""}
    command = ["experiments/grpo_7b.py", "--mesh", "--preset", "smoke", "--cache", str(tmp_path / "cache")]
    for words in ([str(ROOT / command[0]), *command[1:]], ["-c", readme_example()]):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    for model in ("model", "checkpoints/model"):  # the second is what --init runs/short needs
        assert (tmp_path / "runs/short" / model / "config.json").exists()
    assert len(list((tmp_path / "runs/short/completions").iterdir())) == 20
    other = readme_example().replace("range(30)", "range(31)")
    done = subprocess.run(
        [sys.executable, "-c", other],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode and "holds a run of another configuration: --prompts" in done.stderr
