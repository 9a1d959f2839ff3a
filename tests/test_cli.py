import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest

from dsm_jax import cli
from dsm_jax.errors import UserError


@dataclass(frozen=True)
class Optimizer:
    lr: float = 1e-3
    """Learning rate of the first step."""


@dataclass(frozen=True)
class Config:
    preset: str = "small"
    """Name of the defaults."""
    mesh: tuple[str, ...] = ()
    """Mesh axes; none given: every device."""
    steps: int = 10
    budgets: tuple[int, ...] = (1, 2)
    """Tokens of each round."""
    most: int | None = None
    mode: Literal["a", "b"] = "a"
    optimizer: Optimizer = field(default_factory=Optimizer)


PRESETS = {"small": Config(), "large": replace(Config(), preset="large", steps=1000)}


def parse(*argv: str) -> Config:
    return cli.parse(PRESETS, argv)


def test_presets_give_the_defaults_and_options_win():
    assert parse() == PRESETS["small"]
    assert parse("--preset", "large") == PRESETS["large"]
    assert parse("--steps", "5", "--preset=large") == replace(PRESETS["large"], steps=5)
    assert parse("--optimizer.lr", "2e-3").optimizer.lr == 2e-3


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("40e9", 40 * 10**9),
        ("120.2e9", 120_200_000_000),
        ("4_000", 4000),
        ("-1", -1),
        (f"{2**63 - 1}", 2**63 - 1),
    ],
)
def test_whole_numbers_may_be_written_short(word, value):
    assert parse("--steps", word).steps == parse("--most", word).most == value
    assert parse("--budgets", word, "7", "--steps", "3").budgets == (value, 7)
    assert type(parse("--steps", word).steps) is int


def test_a_list_of_whole_numbers_may_be_empty_and_an_optional_one_none():
    assert parse("--budgets").budgets == () and parse("--most", "None").most is None


def test_mesh_stands_bare_or_with_axes():
    assert parse("--mesh").mesh == ()
    assert parse("--mesh", "--steps", "1").mesh == ()
    assert parse("--mesh", "fsdp=8,tensor=4").mesh == ("fsdp=8,tensor=4",)
    assert parse("--mesh=fsdp=8").mesh == ("fsdp=8",)


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--stepz", "3"], ["--stepz", "did you mean --steps?"]),
        (["--steps", "x"], ["--steps", "'x'"]),
        (["--steps"], ["--steps", "Missing value"]),
        (["--steps", "1.5"], ["--steps", "'1.5' is no whole number such as 40000000000", "40e9"]),
        (["--steps", "inf"], ["--steps", "'inf'"]),
        (["--budgets", "1", "40B"], ["--budgets", "'40B' is no whole number such as 40000000000", "40e9"]),
        (["--mode", "c"], ["--mode", "'c'", "'a', 'b'"]),
        (["stray"], ["stray"]),
        (["--preset", "lrage"], ["--preset lrage", "did you mean large?", "small, large"]),
        (["--preset"], ["--preset", "Missing value"]),
        (["--optimizer.lr", "fast"], ["--optimizer.lr", "'fast'"]),
    ],
)
def test_bad_input_is_one_line_and_exit_2(argv, parts, capsys):
    with pytest.raises(SystemExit) as end:
        cli.run_script(lambda config: pytest.fail("must not run"), PRESETS, argv)
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and len(err) < 300
    assert not set("│╭╰─") & set(err)
    for part in parts:
        assert part in err


def test_help_shows_options_defaults_and_presets(capsys):
    with pytest.raises(SystemExit) as end:
        parse("--preset", "large", "--help")
    assert end.value.code in (None, 0)
    out = capsys.readouterr().out
    for part in (
        "--steps",
        "1000",
        "--budgets [INT [INT ...]]",
        "(default: 1 2)",
        "--optimizer.lr",
        "Learning rate",
        "small, large",
        "--mesh",
    ):
        assert part in out


def ending(main, capsys) -> tuple[object, str]:
    with pytest.raises(SystemExit) as end:
        cli.run_script(main, PRESETS, [])
    return end.value.code, capsys.readouterr().err


def test_exit_codes(capsys):
    def mistake(config):
        raise UserError("the corpus is empty:\n give more pages")

    def interrupt(config):
        raise KeyboardInterrupt

    assert ending(mistake, capsys) == (2, "error: the corpus is empty: give more pages\n")
    assert ending(lambda config: os.kill(os.getpid(), signal.SIGTERM), capsys)[0] == 75
    assert ending(interrupt, capsys)[0] == 130
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


class Dying:
    """Gets SIGTERM while it is collected: what the handler raises there is lost."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)


def test_sigterm_during_a_destructor_is_answered(capsys):
    def collect(config):
        Dying()
        time.sleep(20)

    start = time.monotonic()
    assert ending(collect, capsys)[0] == 75 and time.monotonic() - start < 10


def test_other_pythons_are_refused(capsys, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    code, err = ending(lambda config: pytest.fail("must not run"), capsys)
    assert code == 2 and err.startswith("error: Python 3.13") and err.count("\n") == 1


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        cli.run_script(lambda config: 1 / 0, PRESETS, [])


@pytest.mark.parametrize("jax_first", [False, True])
def test_compilation_cache_is_set_and_jax_not_imported(jax_first, tmp_path):
    names = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    env = {k: v for k, v in os.environ.items() if k not in names} | {"HOME": str(tmp_path)}
    code = f"""
import sys
if {jax_first}: import jax
from dsm_jax import cli
from tests.test_cli import PRESETS
def main(config):
    assert ("jax" in sys.modules) == {jax_first}
    import jax
    print(jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs == 0)
cli.run_script(main, PRESETS, [])
"""
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / ".cache/dsm_jax/xla"), "True"]


def test_the_users_own_cache_setting_wins(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    cli.run_script(lambda config: None, PRESETS, [])
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "/elsewhere"
