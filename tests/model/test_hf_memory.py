"""Loading takes little more memory than the model: the process's peak, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import ml_dtypes
import pytest

from tests.model.hf_cases import GQA, random_tensors, write_folder

LARGE = GQA | {"vocab_size": 24_000, "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 4}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mesh", ["fsdp=8", "data=2,fsdp=2,tensor=2", "fsdp=1"])
def test_the_peak_above_the_model_is_below_1_5_of_its_largest_tensor(tmp_path, mesh, dtype):
    for name, entries in (("warm", GQA), ("large", LARGE)):
        tensors = random_tensors(entries)
        if dtype == "bfloat16":
            tensors = {key: tensor.astype(ml_dtypes.bfloat16) for key, tensor in tensors.items()}
        write_folder(tmp_path / name, entries | {"torch_dtype": dtype}, tensors)
    found = subprocess.run(
        [sys.executable, "-m", "tests.model.load_peak", tmp_path / "large", mesh],
        env=os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={1 if mesh == 'fsdp=1' else 8}"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    took = json.loads(found.stdout)
    copies = 2 if mesh.startswith("data=2") else 1  # CPU devices share the host's memory, each replica counts
    print(took)
    assert took["above"] - copies * took["model"] <= 1.5 * took["largest"]
