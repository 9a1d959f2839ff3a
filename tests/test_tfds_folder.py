"""A dataset is replaced whole: whenever a kill comes, one can be read, and the next start ends in the same bytes."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from dsm_jax.errors import UserError
from dsm_jax.tfds_folder import INFO, Dataset, write_dataset


class Killed(BaseException):
    pass


def write(folder, rows):
    features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
    return write_dataset(
        {"train": [{"text": row} for row in rows]}, folder, name="rows", features=features, description=""
    )


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def kill_at(patch, step):
    """A kill at the step-th change of a folder: before a rename, or within a removal, which its INFO is the first to leave."""
    steps = iter(range(100))
    rename, rmtree = Path.rename, shutil.rmtree

    def dying_rename(path, target):
        if path.is_dir() and next(steps) == step:
            raise Killed
        return rename(path, target)

    def dying_rmtree(path, **options):
        if Path(path).is_dir() and next(steps) == step:
            (Path(path) / INFO).unlink(missing_ok=True)
            raise Killed
        return rmtree(path, **options)

    patch.setattr(Path, "rename", dying_rename)
    patch.setattr(shutil, "rmtree", dying_rmtree)


@pytest.mark.parametrize(
    ("first", "second"), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3), (9, 9)]
)
def test_whenever_kills_come_a_dataset_is_replaced_whole(tmp_path, monkeypatch, first, second):
    folder = tmp_path / "corpus"
    write(tmp_path / "undisturbed", ["new", "rows"])
    write(folder, ["old"])
    for step in (first, second):
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed) if step < 9 else nullcontext():
                write(folder, ["new", "rows"])
        whole = [place for place in tmp_path.glob("corpus*") if (place / INFO).is_file()]
        assert any(
            list(Dataset(place)) in ([{"text": "old"}], [{"text": "new"}, {"text": "rows"}])
            for place in whole
        )
    assert write(folder, ["new", "rows"]) == {"train": 2}
    assert contents(folder) == contents(tmp_path / "undisturbed")
    assert {place.name for place in tmp_path.iterdir()} == {"corpus", "undisturbed"}


def test_what_is_no_dataset_is_refused_and_stays(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds other files, and no dataset"):
        write(tmp_path / "corpus", ["row"])
    assert contents(tmp_path / "corpus") == {"thesis.tex": b"years of work"}
