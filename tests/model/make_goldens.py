"""Makes goldens/logits.npz: what transformers computes for the checkpoints of hf_cases.py, in float32 on a CPU.

Needs torch and transformers, which the tests do not: pip install -e .[torch], then
python -m tests.model.make_goldens
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

from tests.model.hf_cases import CASES, IDS, write_folder


def logits(folder: Path) -> np.ndarray:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        return model(torch.tensor(IDS)).logits.numpy()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {name: logits(write_folder(Path(folder) / name, entries)) for name, entries in CASES.items()}
    for name, array in found.items():
        print(f"{name}: std {array.std():.2f}")
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    np.savez_compressed(Path(__file__).parent / "goldens" / "logits.npz", made_by=versions, **found)


if __name__ == "__main__":
    main()
