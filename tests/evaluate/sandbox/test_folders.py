import os
from pathlib import Path

from dsm_jax.evaluate.sandbox.folders import make_empty


def test_everything_in_a_folder_goes_and_nothing_outside(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    for name in (outside, folder / "a/b/c", folder / "locked"):
        name.mkdir(parents=True)
    for name in (
        outside / "kept",
        folder / "a/b/file",
        folder / ".hidden",
        folder / "locked/file",
        folder / "\udcff",
    ):
        name.write_text("x")
    (folder / "a/link").symlink_to(outside)
    (folder / "broken").symlink_to("nowhere")
    (folder / "locked").chmod(0)
    make_empty(str(folder))
    assert os.listdir(folder) == []
    assert os.listdir(outside) == ["kept"]


def test_a_deep_tree_needs_no_long_path_and_no_recursion(tmp_path):
    depth = 1_200
    start = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tmp_path)
        for _ in range(depth):
            os.mkdir("a" * 100)
            os.chdir("a" * 100)
            Path("file").touch()
    finally:
        os.fchdir(start)
        os.close(start)
    make_empty(str(tmp_path))
    assert os.listdir(tmp_path) == []
