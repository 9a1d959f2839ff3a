"""The memory that is there: cgroups' limits, and what devices report."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from dsm_jax import host_limits
from dsm_jax.memory import available_memory
from dsm_jax.mesh import parse_mesh, single_device_mesh


def write_cgroup(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_the_tightest_cgroup_counts(tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.write_text("4:memory:/job/inner\n1:cpu,cpuacct:/job\n0::/job/inner\n")
    assert (
        host_limits.cgroup_memory(tmp_path, own)
        == host_limits.cgroup_memory(tmp_path, tmp_path / "none")
        == np.inf
    )

    write_cgroup(tmp_path / "job/inner", memory__max="max", memory__current=700)
    assert host_limits.cgroup_memory(tmp_path, own) == np.inf
    stat = "anon 600\ninactive_file 100"
    write_cgroup(tmp_path / "job", memory__max=1000, memory__current=700, memory__stat=stat)
    assert host_limits.cgroup_memory(tmp_path, own) == 400  # 100 of the 700 are file cache
    v1 = tmp_path / "memory"
    write_cgroup(v1, memory__limit_in_bytes=500, memory__usage_in_bytes=300)
    assert host_limits.cgroup_memory(tmp_path, own) == 200

    monkeypatch.setattr(host_limits, "cgroup_memory", lambda: 200)
    assert available_memory(single_device_mesh()) == 200 and available_memory(parse_mesh()) == 25


def fake_mesh(*stats):
    """A mesh of accelerators of this process that report these memory_stats()."""
    devices = [SimpleNamespace(platform="tpu", memory_stats=lambda stat=stat: stat) for stat in stats]
    return SimpleNamespace(local_devices=devices)


def test_the_smallest_pool_counts_and_a_silent_backend_is_unknown():
    assert available_memory(fake_mesh({"bytes_limit": 9}, {"bytes_limit": 7})) == 7
    assert available_memory(fake_mesh({"bytes_limit": 9}, None)) is None
    assert available_memory(fake_mesh({})) is None
