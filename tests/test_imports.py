"""Imports point one way, and importing a stage does not bring what another stage needs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "dsm_jax"

# Each room and the rooms it may import from, besides itself.
ALLOWED = {
    "errors": set(),
    "run": {"errors"},
    "host_memory": set(),
    "host_limits": set(),
    "cli": {"errors", "run", "host_memory"},
    "ending": {"errors", "run"},
    "processes": {"errors", "ending"},
    "origin": {"errors", "run"},
    "place": {"errors", "run"},
    "mesh": {"errors", "processes"},
    "memory": {"errors", "run", "host_limits"},
    "records": {"errors"},
    "rows": {"errors"},
    "hub": {"errors"},
    "tfds_folder": {"errors", "records"},
    "tokenizer": {"errors", "run"},
    "tokenizer_json": {"errors", "run", "tokenizer"},
    "chat": {"errors", "run", "tokenizer"},
    "mine": {"errors", "run", "host_limits", "rows", "tfds_folder"},
    # Training text may come in a crawl's files, which mining reads.
    "data": {"errors", "run", "hub", "records", "rows", "tfds_folder", "tokenizer", "chat", "mine"},
    "model": {"errors", "run", "hub", "processes", "mesh", "memory", "tokenizer", "tokenizer_json"},
    "train": {
        "errors",
        "run",
        "place",
        "ending",
        "processes",
        "mesh",
        "memory",
        "tokenizer",
        "model",
        "data",
    },
    "sample": {"errors", "run", "processes", "mesh", "memory", "tokenizer", "model", "data"},
    "evaluate": {"errors", "run", "processes", "mesh", "tokenizer", "model", "data", "train", "sample"},
    # The reward is the grader's verdict.
    "rl": {
        "errors",
        "run",
        "processes",
        "mesh",
        "memory",
        "tokenizer",
        "model",
        "data",
        "train",
        "sample",
        "evaluate",
    },
}
# Each folder of mining and the ones it may import from.
IN_MINING = {
    "web": set(),
    "extract": set(),
    "annotate": {"web"},
    "loop": {"web", "annotate"},
    "corpus": {"web", "extract", "loop"},
}
DEVICE_LIBRARIES = {"jax", "jaxlib", "flax", "optax", "orbax"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Every module a file imports, at its top or inside a function; names of `from m import n` as m.n."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def run_python(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def modules_after_importing(*names: str) -> set[str]:
    code = f"import sys, {', '.join(names)}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(run_python(code))


def modules_of(*rooms: str) -> list[str]:
    return [module(path) for path in FILES if room(path) in rooms]


def test_every_room_has_its_rule_and_the_rules_have_no_cycle():
    assert {room(path) for path in FILES} == set(ALLOWED)
    seen: set[str] = set()
    for name, may in ALLOWED.items():  # listed from the ground up
        assert may <= seen, name
        seen.add(name)


@pytest.mark.parametrize("path", FILES, ids=module)
def test_imports_point_one_way(path):
    own = room(path)
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("dsm_jax.")}
    assert rooms <= ALLOWED[own] | {own, "__version__"}
    assert not {name for name in imported(path) if name.split(".")[0] in ("experiments", "tests")}


@pytest.mark.parametrize("folder", IN_MINING)
def test_imports_of_mining_follow_the_data(folder):
    names = {name for path in (PACKAGE / "mine" / folder).glob("*.py") for name in imported(path)}
    folders = {name.split(".")[2] for name in names if name.startswith("dsm_jax.mine.")} & IN_MINING.keys()
    assert folders <= IN_MINING[folder] | {folder}
    assert folders


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if room(p) in ("mine", "data", "cli", "run", "records", "rows", "tfds_folder")],
    ids=module,
)
def test_mining_and_data_import_no_device_library_of_their_own(path):
    assert not {name.split(".")[0] for name in imported(path)} & DEVICE_LIBRARIES


def test_the_whole_package_imports_nothing():
    assert "dsm_jax" not in "".join(imported(PACKAGE / "__init__.py"))


def test_training_and_rl_bring_no_mining_and_no_data_library():
    got = modules_after_importing(*modules_of("model", "train", "sample", "rl"))
    assert "jax" in got
    assert not got & {"grain", "tensorflow_datasets", "fasttext", "tensorflow", "torch"}


def test_mining_and_problems_bring_no_jax():
    got = modules_after_importing("dsm_jax.mine", "dsm_jax.data.problems", "dsm_jax.cli")
    assert "dsm_jax" in got
    assert not got & DEVICE_LIBRARIES


def test_mining_and_data_start_no_device():
    """Grain imports jax itself; that must not start a backend."""
    names = modules_of("mine", "data")
    code = f"import {', '.join(names)}\nfrom jax._src import xla_bridge\nprint(xla_bridge.backends_are_initialized())"
    assert run_python(code) == ["False"]


def test_the_checker_sees_imports_inside_functions(tmp_path):
    (tmp_path / "x.py").write_text(
        "def f():\n    import dsm_jax.rl\n    from dsm_jax.mine.loop import rank\n"
    )
    assert imported(tmp_path / "x.py") == {"dsm_jax.rl", "dsm_jax.mine.loop.rank"}
