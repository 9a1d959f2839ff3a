"""Commands run as one process or as several that find each other over loopback, with 8 CPU devices in all; and the
environment of one with other devices."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
DEVICES = 8


def environment(devices: int) -> dict[str, str]:
    """Of a process with so many CPU devices, whose programs are compiled as this one's are."""
    ours = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    flags = " ".join([*ours, f"--xla_force_host_platform_device_count={devices}"])
    return os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)}


def start_processes(
    words: Sequence[str], count: int, homes: Sequence[Path] = ()
) -> list[subprocess.Popen[str]]:
    """`python WORDS` in `count` processes; their stdout and stderr are pipes. homes: of each, as on a host of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    # Threads of XLA:CPU, by default as few as devices: a launch that waits for room would hold the one in which the
    # device it waits for could run.
    flags = environment(DEVICES // count) | {"PJRT_NPROC": str(2 * DEVICES)}

    def start(process: int) -> subprocess.Popen[str]:
        join = {
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(count),
            "JAX_PROCESS_ID": str(process),
        }
        home = {"HOME": str(homes[process])} if homes else {}
        return subprocess.Popen(
            [sys.executable, *words],
            env=flags | (join if count > 1 else {}) | home,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return [start(process) for process in range(count)]


def run_processes(
    words: Sequence[str], count: int, *, code: int = 0, homes: Sequence[Path] = ()
) -> list[tuple[str, str]]:
    """(stdout, stderr) of each, once all have ended with this exit code."""
    return said_by(start_processes(words, count, homes), code=code)


def said_by(running: Sequence[subprocess.Popen[str]], *, code: int) -> list[tuple[str, str]]:
    """(stdout, stderr) of each, once all have ended with this exit code."""
    said = [process.communicate(timeout=600) for process in running]
    codes = [process.returncode for process in running]
    assert codes == [code] * len(running), "\n".join(err for _, err in said)
    return said


def wait_for(path: Path, running: Sequence[subprocess.Popen[str]]) -> None:
    """Until it is there, while all of them run."""
    deadline = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < deadline and all(process.poll() is None for process in running), path
        time.sleep(0.02)
