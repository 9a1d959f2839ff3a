"""Every test sees 8 CPU devices. Data too large for the repository comes through DSM_DATA only."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Before anything imports jax.
CACHE = Path(__file__).parent.parent / ".cache"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
# Threads of XLA:CPU. As many as devices, the default, was seen not to be enough: with several programs under way each waits
# for a device whose thread another one holds.
os.environ["PJRT_NPROC"] = "16"
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE / "xla")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import hypothesis
import pytest

# A shared machine is slow at times, and a test must fail for the next person too.
hypothesis.settings.register_profile("repository", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repository")


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_go_with_their_module() -> Iterator[None]:
    """Each is some mappings of memory, of which a process may have 65,530: all tests in one process need more."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


@pytest.fixture(scope="session")
def dsm_data() -> Path:
    """The folder of local data; tests that ask for it are skipped aloud where the variable is not set."""
    if not os.environ.get("DSM_DATA"):
        pytest.skip("DSM_DATA is not set")
    folder = Path(os.environ["DSM_DATA"])
    assert folder.is_dir(), f"DSM_DATA={folder} is no folder"
    return folder
