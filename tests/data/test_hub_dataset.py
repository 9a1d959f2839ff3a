"""Splits of hub data sets: what the card says, what names say, and one line for what cannot be used. The cache stands in for
the hub, which is never asked."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pyarrow
import pyarrow.parquet
import pytest

from dsm_jax.data.hub_dataset import find_hub_split
from dsm_jax.data.instructions import read_rows_of
from dsm_jax.errors import UserError
from dsm_jax.rl.questions import has_test, read_questions

COMMIT = "0" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """hub({file: rows or text}) puts the data set owner/name into the cache, files as links to blobs.

    listed: what the library's list of the repository has, beside the files; None: there is no list.
    """
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    repository = tmp_path / "datasets--owner--name"

    def put(files, listed=()):
        (repository / "refs").mkdir(parents=True)
        (repository / "refs/main").write_text(COMMIT)
        (repository / "blobs").mkdir()
        for number, (name, rows) in enumerate(files.items()):
            blob, link = repository / f"blobs/{number}", repository / "snapshots" / COMMIT / name
            if name.endswith(".parquet"):
                pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), blob)
            else:
                blob.write_text(
                    rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
                )
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blob)
        if listed is not None:
            tree = {name: {"size": 1, "blob_id": "0"} for name in (*files, *listed)}
            (repository / "trees").mkdir()
            text = json.dumps({"format_version": 1, "files": tree})
            (repository / f"trees/{COMMIT}.json").write_text(text)

    return put


def row(text: str) -> list[dict[str, str]]:
    return [{"question": f"{text}?", "answer": "#### 4"}]


def questions(name: str, split: str) -> list[str]:
    return [found["question"] for part in find_hub_split(name, split) for _, found in read_rows_of(part)]


def test_gsm8k_as_the_hub_has_it(hub):
    card = (
        "---\nlicense: mit\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: main/train-*\n"
        "  - split: test\n    path: main/test-*\n- config_name: socratic\n  data_files:\n  - split: train\n"
        "    path: socratic/train-*\n---\n# GSM8K\n"
    )
    hub(
        {
            "README.md": card,
            "main/train-00000-of-00002.parquet": row("a"),
            "main/train-00001-of-00002.parquet": row("b"),
            "main/test-00000-of-00001.parquet": row("c"),
            "socratic/train-00000-of-00001.parquet": row("d"),
        }
    )
    assert questions("owner/name/main", "train") == ["a?", "b?"]
    assert questions("owner/name/main", "test") == ["c?"]
    assert questions("owner/name/socratic", "test") == []
    with pytest.raises(
        UserError,
        match="several configurations; there are main, socratic: name one, such as hub:owner/name/main",
    ):
        find_hub_split("owner/name", "train")
    with pytest.raises(
        UserError, match="no configuration other; there are main, socratic: .* hub:owner/name/main"
    ):
        find_hub_split("owner/name/other", "train")
    first, _ = read_questions("hub:owner/name/main")
    assert first["question"] == "a?" and first["answer"] == "#### 4" and has_test("hub:owner/name/main")
    assert not has_test("hub:owner/name/socratic")
    with pytest.raises(UserError, match="hub:owner/name/socratic: no split test"):
        read_questions("hub:owner/name/socratic", split="test")


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train.jsonl", "test.jsonl"),
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("train/one.json", "test/two.json"),
        ("MathSet_training.jsonl", "MathSet-eval.jsonl"),
        ("latest.jsonl", "latest_test.jsonl"),  # "test" within a word is none
    ],
)
def test_names_say_which_split_it_is(train, test, hub):
    hub({train: row("a"), test: row("c"), "notes.txt": "x", "README.md": "# no metadata"})
    assert questions("owner/name", "train") == ["a?"] and questions("owner/name", "test") == ["c?"]


def test_files_that_name_no_split_are_for_training(hub):
    hub(
        {
            "part1.jsonl": row("a"),
            "part2.jsonl": row("b"),
            "README.md": "---\nconfigs: [1, {data_files: 3}]\n---\n",
        }
    )
    assert questions("owner/name", "train") == ["a?", "b?"] and questions("owner/name", "test") == []


@pytest.mark.parametrize(
    "files", ["'*.jsonl'", "[part1.jsonl, part2.jsonl]", "\n  - split: train\n    path: ['part*']"]
)
def test_forms_of_a_card(files, hub):
    hub(
        {
            "part1.jsonl": row("a"),
            "part2.jsonl": row("b"),
            "README.md": f"---\nconfigs:\n- data_files: {files}\n---\n",
        }
    )
    assert questions("owner/name", "train") == ["a?", "b?"]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("*.jsonl", "a"),
        ("**/*.jsonl", "abcd"),
        ("**", "abcd"),
        ("x/*.jsonl", "b"),
        ("x/*", "b"),
        ("x/**", "bc"),
        ("x", "bc"),
        ("x/", "bc"),
        ("./x/one.jsonl", "b"),
        ("{x,y}/*.json*", "bd"),
        ("{x/{one,no},a}.jsonl", "ab"),
        ("?/[n-p]*.jsonl", "bd"),
    ],
)
def test_a_card_s_patterns_are_globs(pattern, wanted, hub):
    """As fsspec and datasets read them, and braces."""
    names = {"a": "a.jsonl", "b": "x/one.jsonl", "c": "x/other/two.jsonl", "d": "y/one.jsonl"}
    card = f"---\nconfigs:\n- data_files: '{pattern}'\n---\n"
    hub({"README.md": card} | {name: row(text) for text, name in names.items()})
    assert questions("owner/name", "train") == [f"{text}?" for text in wanted]


def test_a_card_s_pattern_without_a_file(hub):
    """Of the configuration that is asked for only."""
    one = "- config_name: {}\n  data_files:\n  - split: train\n    path: [a.jsonl, {}]\n"
    card = f"---\nconfigs:\n{one.format('good', 'b*')}{one.format('bad', 'gone/*.csv')}---\n"
    hub({"README.md": card, "a.jsonl": row("a"), "b.jsonl": row("b")})
    assert questions("owner/name/good", "train") == ["a?", "b?"]
    with pytest.raises(UserError, match=r"owner/name/bad: README.md names gone/\*.csv for the split train"):
        find_hub_split("owner/name/bad", "train")


def test_what_is_not_there_is_one_line(hub):
    with pytest.raises(
        UserError,
        match="owner/name: no such folder, not whole in the local cache of the hub, and the hub gave",
    ):
        find_hub_split("owner/name", "train")
    with pytest.raises(UserError, match="name/: no such folder, and not a hub id of the form owner/name"):
        find_hub_split("name", "train")


def test_a_download_that_was_cut_short_is_not_taken_for_whole(hub):
    hub({"train-0.jsonl": row("a")}, listed=["train-1.jsonl", "notes.txt"])
    with pytest.raises(
        UserError, match="owner/name: no such folder, not whole in the local cache of the hub"
    ):
        find_hub_split("owner/name", "train")


def test_a_cache_without_a_list_is_taken_where_the_hub_cannot_be_reached(hub, monkeypatch, capsys):
    hub({"train-0.jsonl": row("a")}, listed=None)
    assert questions("owner/name", "train") == ["a?"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith(
        "owner/name: taken as the cache has it, whole or not; the hub"
    )
    files = [SimpleNamespace(rfilename=f"train-{i}.jsonl", size=10**18) for i in range(5)]
    monkeypatch.setattr(
        "huggingface_hub.HfApi.dataset_info", lambda *_, **__: SimpleNamespace(siblings=files)
    )
    with pytest.raises(UserError, match="its files take 5000000000.0 GB"):  # a download is about to begin
        find_hub_split("owner/name", "train")


def test_a_whole_cache_does_not_ask_the_hub(hub, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *_, **__: pytest.fail("asks"))
    hub({"train-0.jsonl": row("a")}, listed=["notes.txt"])
    assert questions("owner/name", "train") == ["a?"] and not capsys.readouterr().err
