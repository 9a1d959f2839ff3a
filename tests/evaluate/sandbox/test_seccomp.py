"""The filter as a program, run by an emulator of its five instructions: what it says to every call on both machines."""

import errno
import fcntl
import os
import re
import signal
import socket
import struct
from pathlib import Path

import pytest

from dsm_jax.evaluate.sandbox import seccomp
from dsm_jax.evaluate.sandbox.system_calls import PLAIN, RULED, numbers

OWN = 4321
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
MACHINES = list(HEADERS)


def verdict(machine, number, *arguments, architecture=None):
    """Allowed (0), the error number, or "killed"."""
    code = seccomp.compile_filter(OWN, machine)
    steps = [struct.unpack_from("=HBBI", code, place) for place in range(0, len(code), 8)]
    words = [argument & (2**64 - 1) for argument in (*arguments, *[0] * 6)][:6]
    data = struct.pack("=IIQ6Q", number, architecture or seccomp.AUDIT_ARCHITECTURE[machine], 0, *words)
    value, place = 0, 0
    while True:
        kind, yes, no, k = steps[place]
        place += 1
        if kind == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            (value,) = struct.unpack_from("=I", data, k)
        elif kind == 0x54:  # BPF_ALU | BPF_AND
            value &= k
        elif kind == 0x15:  # BPF_JMP | BPF_JEQ
            place += yes if value == k else no
        elif kind == 0x35:  # BPF_JMP | BPF_JGE
            place += yes if value >= k else no
        else:  # BPF_RET
            assert kind == 0x06
            return {0x7FFF0000: 0, 0x80000000: "killed"}.get(k, k & 0xFFFF)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_is_allowed_ruled_or_refused(machine):
    allowed, ruled = numbers(PLAIN, machine), numbers(RULED, machine)
    assert not allowed.keys() & ruled.keys()
    named = set(allowed.values()) | set(ruled.values())
    assert len(named) == len(allowed) + len(ruled)
    for number in range(1_000):
        said = verdict(machine, number, 99, 99, 99, 99, 99, 99)
        if number in allowed.values():
            assert said == 0, number
        elif number not in named:
            assert said == (errno.EPERM if number < 424 else errno.ENOSYS), number


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_those_of_linux(machine):
    if not HEADERS[machine].exists():
        pytest.skip(f"{HEADERS[machine]} is not installed")
    text = HEADERS[machine].read_text()
    known = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    known.setdefault("newfstatat", known.get("fstatat", -1))
    for table in (PLAIN, RULED):
        ours = numbers(table, machine)
        assert ours == {name: known[name] for name in ours}
        missing = {entry.split()[0] for entry in table.replace("\n", " ").split(", ")} - ours.keys()
        assert not missing & known.keys()


@pytest.mark.parametrize("machine", MACHINES)
def test_arguments_decide(machine):
    call = numbers(RULED, machine)
    thread = 0x3D0F00  # what pthread_create passes
    dup, setown, setsig = fcntl.F_DUPFD, fcntl.F_SETOWN, fcntl.F_SETSIG
    for expected, name, *arguments in [
        (0, "clone", thread),
        (errno.EPERM, "clone", int(signal.SIGCHLD)),
        (errno.EPERM, "clone", 0x4111),  # vfork
        (errno.EPERM, "clone", thread | 0x10000000),  # with a user namespace
        (errno.ENOSYS, "clone3", thread),
        (0, "kill", OWN, 9),
        (errno.EPERM, "kill", OWN + 1, 9),
        (errno.EPERM, "kill", -1, 9),
        (errno.EPERM, "kill", 0, 9),
        (errno.EPERM, "kill", -OWN, 9),
        (0, "tgkill", OWN, 1, 9),
        (errno.EPERM, "tgkill", 1, 1, 9),
        (0, "openat", 3, 0, os.O_RDONLY),
        (0, "openat", 3, 0, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (0, "openat", 3, 0, os.O_RDWR | os.O_TRUNC),
        (errno.EPERM, "openat", 3, 0, os.O_RDONLY | os.O_TRUNC),
        (errno.EPERM, "openat", 3, 0, 3 | os.O_TRUNC),
        (0, "prlimit64", 0),
        (errno.EPERM, "prlimit64", 1),
        (0, "socketpair", socket.AF_UNIX),
        (errno.EPERM, "socketpair", socket.AF_INET),
        (0, "sendto", 3, 1, 1, 0, 0),
        (errno.EPERM, "sendto", 3, 1, 1, 0, 0x7F00),
        (errno.EPERM, "sendto", 3, 1, 1, 0, 0x7F00 << 32),
        (0, "fcntl", 3, dup),
        (errno.EPERM, "fcntl", 3, setown),
        (errno.EPERM, "fcntl", 3, setsig),
        (0, "ioctl", 3, 0x5401),  # TCGETS
        (errno.EPERM, "ioctl", 3, 0x5412),  # TIOCSTI
        (errno.EPERM, "ioctl", 3, 0x8901),  # FIOSETOWN
    ]:
        assert verdict(machine, call[name], *arguments) == expected, (name, arguments)


def test_another_architecture_is_killed_and_other_abis_are_refused():
    assert verdict("x86_64", 0, architecture=0x40000003) == "killed"  # int 0x80, where 0 is another call
    assert verdict("x86_64", 0x40000000) != 0  # x32
