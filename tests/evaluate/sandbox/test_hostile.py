"""Hostile programs end as they must, leave nothing, reach nothing, and the next program runs as if nothing had been."""

import os
import platform
from pathlib import Path

import psutil
import pytest

from tests.evaluate.sandbox.hostile import PROGRAMS, TIMEOUT_S

PROJECT = Path(__file__).parents[3]
NEXT = "import os, sympy\nx = sympy.symbols('x')\nprint(sympy.solve(x**2 - 5*x + 6), os.listdir())"
STAYING = [name for name, program in PROGRAMS.items() if "timeout" in program.status.split()]
LEAVING = [name for name in PROGRAMS if name not in STAYING]
HARMFUL = [
    "tcp",
    "udp",
    "unix socket",
    "abstract socket",
    "reads files",
    "lists folders",
    "executes",
    "ptrace",
]


def somebodies(*names):
    return pytest.mark.parametrize("somebody", names, indirect=True, scope="session")


@somebodies("root", "user")
@pytest.mark.parametrize("name", LEAVING)
def test_a_hostile_program_is_contained(name, somebody, outside):
    contains(somebody, name, outside)


@somebodies("user")
@pytest.mark.parametrize("name", STAYING)
def test_a_program_that_stays_is_ended(name, somebody, outside):
    contains(somebody, name, outside)


@pytest.mark.slow
@somebodies("container", "bubblewrap")
@pytest.mark.parametrize("name", LEAVING)
def test_a_hostile_program_is_contained_by_fewer_layers(name, somebody, outside):
    contains(somebody, name, outside)


@pytest.mark.slow
@somebodies("root", "container", "bubblewrap")
@pytest.mark.parametrize("name", STAYING)
def test_a_program_that_stays_is_ended_by_others(name, somebody, outside):
    contains(somebody, name, outside)


@somebodies("user")
@pytest.mark.parametrize("name", HARMFUL)
def test_these_programs_do_harm_where_nothing_contains_them(name, somebody, outside):
    result = somebody.run(filled(name, somebody, outside), isolation="none")
    assert "ESCAPED" in result.stdout


def contains(somebody, name, outside):
    if "refused(" in PROGRAMS[name].code and platform.machine() != "x86_64":
        pytest.skip("the numbers of these calls are those of x86_64")
    timeout_s = TIMEOUT_S if name in STAYING else 20
    result = somebody.run(filled(name, somebody, outside), timeout_s=timeout_s, memory_mb=128)
    assert result.status in PROGRAMS[name].status.split(), result
    assert "ESCAPED" not in result.stdout
    assert result.seconds < timeout_s + 3
    assert len(result.stdout) <= 65_536
    following = somebody.run(NEXT)
    assert (following.status, following.stdout, following.stderr) == ("ok", "[2, 3] []\n", "")
    assert still_running(somebody.who["pid"]) <= (3 if somebody.name == "bubblewrap" else 2)
    secret = Path(outside.folder, "secret")
    assert (secret.read_text(), secret.stat().st_mode & 0o777) == ("secret", 0o666)
    assert sorted(os.listdir(outside.folder)) == ["secret", "socket"]


def filled(name, somebody, outside):
    code = PROGRAMS[name].code
    for key, value in {
        "{port}": outside.port,
        "{folder}": outside.folder,
        "{abstract}": outside.abstract,
        "{project}": PROJECT,
        "{pids}": [somebody.who["pid"], os.getpid()],
        "{{": "{",
        "}}": "}",
    }.items():
        code = code.replace(key, str(value))
    return code


def still_running(session: int) -> int:
    """A server, the process that waits for it, and whatever was forked from it, whoever its parent is now."""
    servers = [child.cmdline() for child in psutil.Process(session).children()]
    settings = {command[-1] for command in servers}
    return sum((one.info["cmdline"] or [""])[-1] in settings for one in psutil.process_iter(["cmdline"]))


def test_there_are_enough():
    assert len(PROGRAMS) >= 40
