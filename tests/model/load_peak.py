"""Prints, as JSON, what loading a folder (argument 1) on a mesh (argument 2) took: bytes of the process's peak above
what it held before, of the model's parameters, and of its largest tensor. Run by test_hf_memory.py."""

import json
import sys
from pathlib import Path

import jax

from dsm_jax.mesh import parse_mesh
from dsm_jax.model import load_hf
from dsm_jax.model.hf_folder import find_tensors, read_config


def status(entry: str) -> int:
    """Bytes of VmRSS or VmHWM."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(entry))
    return int(line.split()[1]) * 1024


folder = Path(sys.argv[1])
mesh = parse_mesh((sys.argv[2],))
load_hf(folder.parent / "warm", mesh)  # imports, the backend and its threads are no part of a load
Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
before = status("VmRSS")
model = load_hf(folder, mesh)
jax.block_until_ready(model.params)
print(
    json.dumps(
        {
            "above": status("VmHWM") - before,
            "model": sum(leaf.nbytes for leaf in jax.tree.leaves(model.params)),
            "largest": max(
                t.nbytes for t in find_tensors(folder, read_config(folder), any_dtype=True).values()
            ),
        }
    )
)
