"""The corpus's rows: collected pages with their score and the iteration that collected them first; nothing stays half."""

import gzip
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from dsm_jax.mine import pipeline
from dsm_jax.mine.config import PRESETS
from dsm_jax.mine.corpus.export import read_corpus
from dsm_jax.mine.pipeline import Examples, Sources, mine

CONFIG = replace(PRESETS["smoke"], keep_share=0.35, stop_share=1.0, iterations=2)


def run(crawl, out, config=CONFIG):
    warcs, seed = crawl
    return mine(config, out, Sources(tuple(map(str, warcs))), Examples((seed,)))


def scores(out, number):
    with gzip.open(out / f"iteration-{number:02d}" / "scores.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def test_each_record_has_its_last_score_and_first_iteration(crawl, tmp_path):
    out = tmp_path / "out"
    last = len(run(crawl, out).funnel["iterations"])
    kept = [{row["url"] for row in scores(out, number) if row["kept"]} for number in range(1, last + 1)]
    score_of = {row["url"]: row["score"] for row in scores(out, last)}
    records = list(read_corpus(out / "corpus"))
    assert {record["url"] for record in records} == kept[-1]
    order = [row["url"] for row in scores(out, last) if row["kept"]]
    assert [record["url"] for record in records] == order
    for record in records:
        assert record["score"] == pytest.approx(score_of[record["url"]], rel=1e-6)
        assert record["iteration"] == min(i + 1 for i, urls in enumerate(kept) if record["url"] in urls)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("name", ["write_corpus", "write_json", "shutil"])
def test_after_a_kill_and_with_more_iterations_no_working_folder_stays(crawl, tmp_path, monkeypatch, name):
    def dies(*args, **kwargs):
        raise Killed

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, name, SimpleNamespace(rmtree=dies) if name == "shutil" else dies)
        with pytest.raises(Killed):
            run(crawl, out)
    assert (out / "funnel.json").exists() == (name == "shutil") and list(out.glob("clean-*"))
    run(crawl, out, replace(CONFIG, iterations=3 if name == "write_corpus" else 2))
    assert not list(out.glob("clean-*"))
