"""States come back bit for bit, on other meshes too; kills and damage fall back to the checkpoint before."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh
from dsm_jax.train.checkpoint import Checkpoints

# Reads that orbax gives up are reported whenever they are collected, in a later test too.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MESHES = {"mixed": ("data=2,fsdp=2,tensor=2",), "fsdp": ("fsdp=8",), "one": ("fsdp=1",)}


class State(NamedTuple):
    params: dict
    opt_state: tuple
    step: jax.Array
    key: jax.Array


def make_mesh(name):
    return parse_mesh(MESHES[name], jax.devices()[:1] if name == "one" else None)


def shardings(state, mesh):
    def sharding(leaf):
        return NamedSharding(mesh, P("fsdp", "tensor") if len(leaf.shape) == 2 else P())

    return jax.tree.map(sharding, state)


def make_state(mesh, step=0, width=16):
    """A state of an 8 x `width` matrix, whose numbers depend on `step`, on `mesh`."""
    params = {"w": jax.random.normal(jax.random.key(step), (8, width)), "norm": jnp.arange(4.0) / 3}
    _, opt_state = optax.adam(1e-3).update(params, optax.adam(1e-3).init(params))
    state = State(params, opt_state, jnp.int32(step), jax.random.split(jax.random.key(step), 3))
    return jax.device_put(state, shardings(state, mesh))


def target(mesh, **options):
    state = make_state(mesh, **options)
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state)


def assert_same(state, expected):
    def check(a, b):
        if jnp.issubdtype(b.dtype, jax.dtypes.prng_key):
            assert a.dtype == b.dtype
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), strict=True)

    assert jax.tree.structure(state) == jax.tree.structure(expected)
    jax.tree.map(check, state, expected)


@pytest.mark.parametrize("name", list(MESHES))
def test_restores_bit_equal_onto_another_mesh(tmp_path, name):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, make_state(make_mesh("mixed"), 7))
    wanted = target(make_mesh(name))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 7
        state = checkpoints.restore(wanted)
    assert_same(state, make_state(make_mesh("one"), 7))
    assert jax.tree.map(lambda a: a.sharding, state) == jax.tree.map(lambda a: a.sharding, wanted)


def test_restored_key_draws_the_same_numbers(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(make_mesh("one"), 1), wait=True)
        state = checkpoints.restore(target(make_mesh("one")))
    expected = jax.random.split(jax.random.key(1), 3)
    assert jax.random.bits(state.key[2]) == jax.random.bits(expected[2])


def test_donating_after_save_does_not_change_what_is_written(tmp_path):
    """Large enough that the write goes on while the buffers are overwritten."""
    state = {"w": jnp.zeros((4 << 20,)), "v": jnp.zeros((4 << 20,))}
    step = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    state = step(state)
    with Checkpoints(tmp_path, keep=10) as checkpoints:
        for i in range(1, 4):
            checkpoints.save(i, state)
            for _ in range(5):
                state = step(state)
        jax.block_until_ready(state)
        structs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state)
        for i in range(1, 4):
            for leaf in checkpoints.restore(structs, step=i).values():
                np.testing.assert_array_equal(leaf, 5 * i - 4)


def test_keeps_the_last_and_skips_a_step_that_is_there(tmp_path):
    mesh = make_mesh("one")
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        assert checkpoints.latest_step() is None and checkpoints.restore(target(mesh)) is None
        for step in (1, 2, 3, 3):
            checkpoints.save(step, make_state(mesh, step))
        checkpoints.save(3, make_state(mesh, 99), wait=True)
        assert_same(checkpoints.restore(target(mesh)), make_state(mesh, 3))
        assert_same(checkpoints.restore(target(mesh), step=2), make_state(mesh, 2))
        with pytest.raises(UserError, match="no checkpoint of step 1; there are .2, 3."):
            checkpoints.restore(target(mesh), step=1)


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("damage", ["everything", "data", "index", "table"])
def test_damaged_checkpoint_is_passed_over(tmp_path, capsys, damage):
    mesh = make_mesh("one")
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, make_state(mesh, step, width=2048))
    files = [file for file in (tmp_path / "2").rglob("*") if file.is_file()]
    if damage == "data":
        cut(max(files, key=lambda file: file.stat().st_size))
    elif damage == "index":
        (tmp_path / "2/default/manifest.ocdbt").unlink()
    else:
        for file in files:
            if damage == "everything" or file.name == "_METADATA":
                cut(file)
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore(target(mesh, width=2048)), make_state(mesh, 1, width=2048))
        assert "step 2 is damaged" in capsys.readouterr().err
        assert checkpoints.latest_step() == 1
        checkpoints.save(2, make_state(mesh, 2, width=2048))
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore(target(mesh, width=2048)), make_state(mesh, 2, width=2048))


def test_every_checkpoint_damaged_is_an_error_and_nothing_moves(tmp_path):
    mesh = make_mesh("one")
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(mesh, 1))
    for file in (tmp_path / "1").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(UserError, match="no checkpoint can be read .*move this folder away") as error,
    ):
        checkpoints.restore(target(mesh))
    assert "\n" not in str(error.value) and (tmp_path / "1").is_dir()


@pytest.mark.parametrize("harm", ["table", "data"])
def test_a_disk_that_fails_is_no_damage(tmp_path, harm):
    """A link to itself stands for a file that is there and cannot be opened."""
    mesh = make_mesh("one")
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, make_state(mesh, step, width=2048))
    folder = tmp_path / "2/default"
    files = (folder / "d").iterdir() if harm == "data" else [folder / "array_metadatas/process_0"]
    for file in list(files):
        file.unlink()
        file.symlink_to(file)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises((OSError, ValueError), match="(?i)too many.*links|failed to open"):
            checkpoints.restore(target(mesh, width=2048))
        assert checkpoints.latest_step() == 2


def test_another_model_is_refused(tmp_path):
    mesh = make_mesh("one")
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(mesh, 1), wait=True)
        with pytest.raises(UserError, match=r"params.w is float32\[8, 16\] there and float32\[8, 32\] here"):
            checkpoints.restore(target(mesh, width=32))
        with pytest.raises(UserError, match=r"opt_state.0.count is int32\[\] there and absent here"):
            checkpoints.restore(target(mesh)._replace(opt_state=()))


KILLED = """
import os, signal, sys, jax, jax.numpy as jnp
from pathlib import Path
from dsm_jax.place import TORN
from dsm_jax.train.checkpoint import Checkpoints
folder = Path(sys.argv[1])
checkpoints = Checkpoints(folder)
checkpoints.save(1, {"w": jnp.full((20 << 20,), 1.0)}, wait=True)
checkpoints.save(2, {"w": jax.random.normal(jax.random.key(0), (20 << 20,))})
while not list(folder.glob("2*" + TORN + "*")):
    assert not (folder / "2").exists(), "the save ended before the kill"
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_save_killed_in_the_middle_leaves_the_one_before(tmp_path, capfd):
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, cwd=root)
    assert ended.returncode == -signal.SIGKILL
    assert list(tmp_path.glob("2*"))
    capfd.readouterr()
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    structs = {"w": jax.ShapeDtypeStruct((20 << 20,), jnp.float32, sharding=device)}
    with Checkpoints(tmp_path) as checkpoints:
        assert "removed" in capfd.readouterr().err
        assert checkpoints.latest_step() == 1
        np.testing.assert_array_equal(checkpoints.restore(structs)["w"], 1.0)
        assert not list(tmp_path.glob("2*"))
        checkpoints.save(2, {"w": jnp.full((20 << 20,), 2.0)}, wait=True)
        np.testing.assert_array_equal(checkpoints.restore(structs)["w"], 2.0)


FULL = """
import resource, signal, sys, jax, jax.numpy as jnp
from dsm_jax.errors import UserError
from dsm_jax.train.checkpoint import Checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # stands for a full disk
try:
    with Checkpoints(sys.argv[1]) as checkpoints:
        checkpoints.save(1, {"w": jnp.zeros((10,))}, wait=True)
        checkpoints.save(2, {"w": jax.random.normal(jax.random.key(0), (2 << 20,))}, wait=sys.argv[2] == "wait")
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("when", ["wait", "later"])
def test_a_disk_that_is_full_is_one_line_and_the_checkpoint_before_stays(tmp_path, when):
    root = Path(__file__).parents[2]
    words = [sys.executable, "-c", FULL, str(tmp_path), when]
    ended = subprocess.run(words, check=False, cwd=root, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "a checkpoint could not be written" in ended.stdout and "File too large" in ended.stdout
    assert ended.stdout.count("\n") == 1 and "make room" in ended.stdout
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 1


def test_saving_and_restoring_is_silent(tmp_path, capfd):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(make_mesh("mixed"), 1))
        checkpoints.restore(target(make_mesh("fsdp")))
    said = capfd.readouterr()
    assert said.out == said.err == ""
