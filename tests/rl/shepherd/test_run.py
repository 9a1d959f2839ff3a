"""A labelling run's folder: the same bytes whenever it is stopped, what ends it, and how much memory it takes."""

from __future__ import annotations

import json
import tracemalloc
from itertools import count
from pathlib import Path

import pytest

from dsm_jax.errors import Preempted, UserError
from dsm_jax.rl.shepherd import run as run_module
from dsm_jax.rl.shepherd.chunks import chunk_file, labels_of, rows_in
from dsm_jax.rl.shepherd.config import Shepherd
from dsm_jax.rl.shepherd.labelling import label_pools
from dsm_jax.rl.shepherd.pool import pool_of
from dsm_jax.rl.shepherd.run import copy_pools, fill_pools, label_chunks, label_counts, pool_counts
from dsm_jax.rl.steps.labelled import read_labelled
from tests.rl.shepherd.scripted import PROMPT, RIGHT, WRONG, Scripted, by_chance, share

CONFIG = Shepherd(solutions=4, n=4, max_new_tokens=60, chunk=2, patience=3)
FILES = ("labels.jsonl", "math_shepherd.jsonl")


def problems(number: int) -> list[dict[str, str]]:
    return [
        {"question": f"q{i}", "answer": "7", "prompt": PROMPT.replace("q", f"q{i}"), "task": "T"}
        for i in range(number)
    ]


def writes(text: str, sample: int) -> str | None:
    """Solutions of one to four lines that share some; completions as by_chance has them."""
    if text.endswith("Assistant:"):
        lines = [f"{'abc'[int(3 * share(text, sample, i))]}" for i in range(int(4 * share(text, sample)))]
        return "\n".join(["", *lines]) + (RIGHT if share(text, sample, "right") < 0.5 else WRONG)
    return by_chance()(text, sample)


def whole(out: Path, config: Shepherd = CONFIG, script=writes, number: int = 7) -> dict[str, bytes]:
    fill_pools(Scripted(script), problems(number), out, config)
    label_chunks(Scripted(script), out, config)
    return contents(out)


def contents(out: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()
    }


def test_a_run_s_files(tmp_path: Path) -> None:
    found = whole(tmp_path)
    assert sorted(found) == sorted(
        [
            *FILES,
            "pool/done.json",
            *(f"{part}/{i:06d}.jsonl" for part in ("pool", "labelled") for i in range(4)),
        ]
    )
    rows = [json.loads(line) for line in found["labels.jsonl"].splitlines()]
    pools = [pool_of(row) for i in range(4) for row in rows_in(chunk_file(tmp_path / "pool", i))]
    expected, counts = label_pools(Scripted(writes), pools, CONFIG)
    assert [labels_of(row) for row in rows] == expected
    total = label_counts(tmp_path)
    assert (total.completions, total.decoded, total.steps) == (
        counts.completions,
        counts.decoded,
        counts.steps,
    )
    assert pool_counts(tmp_path).sampled == 28
    records = [json.loads(line) for line in found["math_shepherd.jsonl"].splitlines()]
    back = read_labelled([tmp_path / "math_shepherd.jsonl"])
    for row, record, labelled in zip(rows, records, back, strict=True):
        assert record["input"].count("ки") == len(row["labels"]) and record["task"] == "T"
        assert [*labelled.labels] == row["labels"] and labelled.question == row["question"]
    assert list(read_labelled([tmp_path / "labels.jsonl"])) == [one.labelled for one in expected]


class Stopped(BaseException):
    """In the place of kill -9."""


@pytest.mark.parametrize("ending", [Stopped, Preempted, KeyboardInterrupt])
def test_stopped_at_any_write_it_ends_in_the_same_bytes(tmp_path: Path, monkeypatch, ending) -> None:
    expected = whole(tmp_path / "whole")
    places = 0
    for place in count():
        out, left = tmp_path / f"{ending.__name__}{place}", iter(range(place))

        def stop(original):
            def write(*arguments):
                if next(left, None) is None:  # noqa: B023
                    raise ending
                return original(*arguments)

            return write

        with monkeypatch.context() as patch:
            for module, name in (
                (run_module, "write_chunk"),
                (run_module, "write_json"),
                (run_module, "join_chunks"),
            ):
                patch.setattr(module, name, stop(getattr(module, name)))
            try:
                whole(out)
                break
            except ending:
                places += 1
        assert whole(out) == expected
        if ending is not Stopped and place > 3:
            return
    assert places > 12 and contents(out) == expected


def test_rounds_of_a_chunk_are_not_drawn_again(tmp_path: Path, monkeypatch) -> None:
    fill_pools(Scripted(writes), problems(2), tmp_path, CONFIG)
    sampler = Scripted(writes)
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_chunk", lambda *_: (_ for _ in ()).throw(Stopped))
        with pytest.raises(Stopped):
            label_chunks(sampler, tmp_path, CONFIG)
    assert len(sampler.calls) > 1
    again = Scripted(writes)
    label_chunks(again, tmp_path, CONFIG)
    assert again.calls == []


def test_a_limit_of_decoded_tokens_is_looked_at_between_chunks(tmp_path: Path) -> None:
    config = Shepherd(**vars(CONFIG) | {"max_decoded": 1})
    found = whole(tmp_path / "cut", config)
    assert "labelled/000000.jsonl" in found and "labelled/000001.jsonl" not in found
    everything = whole(tmp_path / "all")
    assert everything["labels.jsonl"].startswith(found["labels.jsonl"]) and found["labels.jsonl"]


def test_a_completer_that_never_solves_anything_ends_the_run(tmp_path: Path) -> None:
    def script(text: str, sample: int) -> str:
        return "\na\nb" + (RIGHT if sample else WRONG) if text.endswith("Assistant:") else WRONG

    with pytest.raises(UserError, match="no completion is right: .* of 4 problems") as error:
        whole(tmp_path, script=script)
    assert "\n" not in str(error.value) and "and another --out, or --patience 0" in str(error.value)
    assert chunk_file(tmp_path / "labelled", 1).exists() and not chunk_file(tmp_path / "labelled", 2).exists()
    with pytest.raises(UserError, match="no completion is right"):
        whole(tmp_path, script=script)
    assert "labels.jsonl" in whole(tmp_path, Shepherd(**vars(CONFIG) | {"patience": 0}), script)


def test_few_problems_without_a_right_completion_end_it_too(tmp_path: Path) -> None:
    script = lambda text, sample: "\na" + RIGHT if text.endswith("Assistant:") else WRONG
    with pytest.raises(UserError, match="of 2 problems"):
        whole(tmp_path, script=script, number=2)


def test_an_empty_pool_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no solution to label: 28 of 7 problems, 28 never ended"):
        whole(tmp_path, script=lambda text, sample: None)


def test_solutions_that_leave_no_room_are_told(tmp_path: Path) -> None:
    fill_pools(Scripted(lambda text, sample: "\na" * 15 + RIGHT), problems(3), tmp_path, CONFIG)
    less = Shepherd(**vars(CONFIG) | {"max_new_tokens": 30})
    with pytest.raises(UserError, match="none of 3 solutions leaves room for a completion"):
        label_chunks(Scripted(by_chance()), tmp_path, less)
    assert not (tmp_path / "labels.jsonl").exists()


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    whole(tmp_path)
    chunk_file(tmp_path / "pool", 1).write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="000001.jsonl:1: damaged; delete the file"):
        whole(tmp_path)


def rows_of(file: Path, number: int, letters: int = 50) -> Path:
    with file.open("w", encoding="utf-8") as out:
        for i in range(number):
            row = {"question": f"q{i // 5}", "answer": "7", "completion": f"\na\n{'b' * letters}{i}" + RIGHT}
            out.write(json.dumps(row) + "\n")
    return file


def test_pools_that_are_read_give_the_same_again(tmp_path: Path) -> None:
    file = rows_of(tmp_path / "rows.jsonl", 33)
    config = Shepherd(**vars(CONFIG) | {"max_new_tokens": 100})
    for out in (tmp_path / "one", tmp_path / "two"):
        copy_pools([file], out, config)
        label_chunks(Scripted(by_chance()), out, config)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert pool_counts(tmp_path / "one").kept == 33 == label_counts(tmp_path / "one").solutions


def test_a_pool_is_of_the_files_that_were_read_whole(tmp_path: Path) -> None:
    many, few = rows_of(tmp_path / "many.jsonl", 33), rows_of(tmp_path / "few.jsonl", 9)
    copy_pools([many], tmp_path, CONFIG)
    (tmp_path / "pool/done.json").unlink()  # as if it had been stopped
    copy_pools([few], tmp_path, CONFIG)
    assert pool_counts(tmp_path).kept == 9
    with pytest.raises(UserError, match="the files of --pool have changed since they were read"):
        copy_pools([many], tmp_path, CONFIG)
    few.rename(tmp_path / "renamed.jsonl")
    copy_pools([tmp_path / "renamed.jsonl"], tmp_path, CONFIG)


def test_the_memory_does_not_grow_with_the_pool(tmp_path: Path) -> None:
    def peak(number: int) -> int:
        out, config = tmp_path / str(number), Shepherd(n=1, max_new_tokens=3_000, chunk=4)
        file = rows_of(tmp_path / f"{number}.jsonl", number, 1_000)
        sampler = Scripted(lambda text, sample: RIGHT)
        sampler.config.max_seq_len = 4_000
        sampler.calls = _Forgets()
        tracemalloc.start()
        copy_pools([file], out, config)
        label_chunks(sampler, out, config)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(20)
    assert peak(200) < 1.5 * peak(40)


class _Forgets(list):
    def append(self, _: object) -> None:
        pass
