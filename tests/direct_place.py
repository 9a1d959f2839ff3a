"""A script with file:// treated like gs://, its checkpoints written there directly: python -m tests.direct_place SCRIPT OPTIONS"""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

from dsm_jax import place


def without_scheme(found: place.Place) -> place.Place:
    """The checkpoints' library knows no file://."""
    return replace(found, checkpoints=str(found.checkpoints).removeprefix("file://"))


if __name__ == "__main__":
    own = place._place
    place.DIRECT = ("file",)
    place._place = lambda out: without_scheme(own(out))
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
