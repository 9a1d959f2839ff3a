"""Memory that the process keeps: no page is cleared twice; nothing is set where the arrays are elsewhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from dsm_jax.host_memory import keep_host_memory

FAULTS = """
import ctypes, resource, sys
from dsm_jax.host_memory import keep_host_memory
assert keep_host_memory() == (sys.argv[1] == "keep")
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def use():
    block = libc.malloc(256 << 20)
    ctypes.memset(block, 1, 256 << 20)
    libc.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, **environment: str) -> int:
    """Page faults of taking and writing 256 MB a second time."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how],
        env={"PYTHONPATH": str(Path(__file__).parents[1]), **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_memory_that_was_given_back_is_there_again():
    assert faults("keep", JAX_PLATFORMS="cpu") < 100
    assert faults("leave", JAX_PLATFORMS="cuda") > 1_000


def test_the_user_s_settings_stay():
    assert faults("leave", JAX_PLATFORMS="cpu", GLIBC_TUNABLES="glibc.malloc.arena_max=2") > 1_000


@pytest.mark.parametrize("device", ["nvidia0", "accel0"])
def test_hosts_of_accelerators_are_left_alone(device, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    (tmp_path / device).touch()
    assert not keep_host_memory(tmp_path)
