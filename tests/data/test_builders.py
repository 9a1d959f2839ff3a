"""GSM8K and MATH through TFDS: every row comes back by index, without TensorFlow, and the bytes are the same each time."""

import gzip
import json
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds

from dsm_jax.data.builders import build_gsm8k, build_math
from dsm_jax.data.instructions import boxed_gsm8k, read_sft
from dsm_jax.errors import UserError
from dsm_jax.tfds_folder import Dataset

ROWS = [
    {
        "problem": f"Find $x$ in $x+{i}=3$.",
        "level": f"Level {i}",
        "type": "Algebra",
        "solution": f"$\\boxed{{{3 - i}}}$",
    }
    for i in range(12)
]


def write_problems(folder, rows):
    folder.mkdir(parents=True)
    for i, row in enumerate(rows):
        (folder / f"{i}.json").write_text(json.dumps(row))


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_math_from_folders_and_from_lines(tmp_path):
    write_problems(tmp_path / "MATH/train/algebra", ROWS[:8])
    write_problems(tmp_path / "MATH/test/algebra", ROWS[8:])
    assert build_math(tmp_path / "MATH", tmp_path / "math") == {"train": 8, "test": 4}
    assert [Dataset(tmp_path / "math", "test")[i] for i in range(4)] == ROWS[8:]
    source = tfds.builder_from_directory(str(tmp_path / "math")).as_data_source("train")
    assert source[7]["level"] == b"Level 7" and "tensorflow" not in sys.modules
    for split, rows in (("train", ROWS[:8]), ("test", ROWS[8:])):
        (tmp_path / f"{split}.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    build_math(tmp_path, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "math")
    assert [record.question for record in read_sft([tmp_path / "math"])] == [
        row["problem"] for row in ROWS[:8]
    ]


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match=r"no train.jsonl, test.jsonl \(or .json, .gz, .zst\)"):
        build_math(tmp_path, tmp_path / "out")
    (tmp_path / "train.jsonl").write_text(json.dumps(ROWS[0]) + '\n{"problem": "a", "solution": 1}\n')
    with pytest.raises(UserError, match=r"train.jsonl:2: no text in solution, level, type"):
        build_math(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="no dataset there"):
        Dataset(tmp_path / "out")
    (tmp_path / "train.jsonl").write_text("\n")
    with pytest.raises(UserError, match="no record for the split train"):
        build_math(tmp_path, tmp_path / "out")
    (tmp_path / "train.jsonl").unlink()
    (tmp_path / "train.jsonl.gz").write_bytes(b"<html>404</html>")
    with pytest.raises(UserError, match=r"train.jsonl.gz:1: damaged"):
        build_math(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_files_stays_as_it_is(tmp_path):
    (tmp_path / "MATH").mkdir()
    (tmp_path / "MATH/train.jsonl").write_text(json.dumps(ROWS[0]))
    (tmp_path / "thesis.txt").write_text("three years")
    for out in (tmp_path, tmp_path / "MATH", tmp_path / "thesis.txt"):
        with pytest.raises(UserError, match=r"holds other files, and no dataset .* give a folder of its own"):
            build_math(tmp_path / "MATH", out)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["MATH", "thesis.txt", "train.jsonl"]
    (tmp_path / "out").mkdir()
    for _ in range(2):  # an empty folder, then a dataset
        assert build_math(tmp_path / "MATH", tmp_path / "out") == {"train": 1}


SHARD = "math-train.array_record-00000-of-00001"


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json", SHARD])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"splits": 1}', "\0"])
def test_a_damaged_dataset_is_told_in_one_line(tmp_path, name, content):
    (tmp_path / "train.jsonl").write_text(json.dumps(ROWS[0]))
    build_math(tmp_path, tmp_path / "out")
    (tmp_path / "out" / name).write_text(content)
    with pytest.raises(UserError, match=r"out: its dataset is damaged \(.*\); make it again") as error:
        list(read_sft([tmp_path / "out"]))
    assert "\n" not in str(error.value)


def test_gsm8k(dsm_data, tmp_path):
    code = "from dsm_jax.data.builders import build_gsm8k; import sys; print(build_gsm8k(*sys.argv[1:]))"
    argv = [sys.executable, "-c", code, str(dsm_data / "gsm8k"), str(tmp_path / "gsm8k")]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == (
        "{'train': 7473, 'test': 1319}\n"
    )
    for split in ("train", "test"):
        with gzip.open(dsm_data / f"gsm8k/{split}.jsonl.gz") as file:
            rows = [json.loads(line) for line in file]
        dataset = Dataset(tmp_path / "gsm8k", split)
        assert [dataset[i] for i in range(len(dataset))] == rows
        if split == "train":
            found = [record.turns[1].text for record in read_sft([tmp_path / "gsm8k"])]
            assert found == [boxed_gsm8k(row["answer"]) for row in rows]
            assert not any("<<" in answer or "####" in answer for answer in found)
            assert all(answer.count("\\boxed{") == 1 for answer in found)
    build_gsm8k(dsm_data / "gsm8k", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "gsm8k")
    with pytest.raises(UserError, match="no split dev; it has"):
        Dataset(tmp_path / "gsm8k", "dev")
