"""A second start of mining: after a kill, with more iterations, with annotations, and with other input."""

import json
from dataclasses import replace

import pytest

from dsm_jax.errors import UserError
from dsm_jax.mine import duplicates, pages, pipeline
from dsm_jax.mine.corpus import clean
from dsm_jax.mine.corpus.decontaminate import BenchmarkText
from dsm_jax.mine.corpus.export import read_corpus
from dsm_jax.mine.loop import iterate, marks, score, scores_file
from dsm_jax.mine.loop.iterate import iteration_folder
from tests.mine.mining_runs import CONFIG, contents, page_rows, read_rows, run, training_lines


class Killed(BaseException):
    pass


STAGES = [
    (pages, "write_json", 1),
    (pages, "RowGroups", 2),
    (duplicates, "page_array", 0),
    (duplicates, "first_pages", 3),
    (marks, "mark_done", 0),
    (iterate, "mark_verdicts", 1),
    (iterate, "write_training_file", 1),
    (score.classify, "predict", 2),
    (iterate, "find_cut", 1),
    (scores_file, "gzip_lines", 1),
    (scores_file, "join", 1),
    (iterate, "mark_done", 0),
    (clean, "write_json", 1),
    (pipeline, "write_corpus", 0),
    (pipeline, "gzip_lines", 0),
    (pipeline, "card", 0),
    (pipeline, "write_json", 0),
]


@pytest.mark.parametrize(("module", "name", "calls"), STAGES)
def test_ended_at_any_stage_with_torn_files_the_restart_ends_in_the_same_bytes(
    mined, crawl, tmp_path, monkeypatch, module, name, calls
):
    """An exception ends it, which removes the file that is being written; a kill leaves it torn, so that is put back."""
    out, real, left = tmp_path / "out", getattr(module, name), [calls]

    def dies(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, dies)
        with pytest.raises(Killed):
            run(out, crawl)
    assert not (out / "funnel.json").exists()
    leave_torn_files(out, mined[0])
    run(out, crawl)
    assert contents(out) == contents(mined[0])


def leave_torn_files(out, whole):
    """Half of each file that is not there yet, under the name that it has while it is written."""
    for name, content in contents(whole).items():
        path = out / name
        if path.parent.is_dir() and not path.exists():
            path.with_name(f"{path.name}.tmp").write_bytes(content[: len(content) // 2])


def test_a_file_that_comes_back_after_duplicates_were_looked_for_stays_out(crawl, tmp_path, monkeypatch):
    """Keys looked at before the kill name pages by numbers that one more file would shift."""
    out, real, away = tmp_path / "out", pages.fetch, str(crawl[0][0])

    def down(source, folder):
        if source == away:
            raise pages.Missing(source, "503")
        return real(source, folder)

    def dies(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(pages, "fetch", down)
        patch.setattr(duplicates, "_resolve", dies)
        with pytest.raises(Killed):
            run(out, crawl)
    funnel = run(out, crawl).funnel
    assert list(funnel["files_missing"]) == [away] and funnel["duplicates"] <= 1
    others = run(tmp_path / "others", crawl, warcs=crawl[0][1:]).funnel
    assert funnel["duplicates"] == others["duplicates"] and funnel["pages_in"] == others["pages_in"]


def test_killed_once_the_funnel_is_there_no_cleaned_shard_stays(mined, crawl, tmp_path, monkeypatch):
    out, real = tmp_path / "out", pipeline.write_json

    def dies(path, value):
        real(path, value)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "write_json", dies)
        with pytest.raises(Killed):
            run(out, crawl)
    assert (out / "funnel.json").exists()
    run(out, crawl)
    assert contents(out) == contents(mined[0])


def test_a_finished_run_does_nothing_again(mined, crawl, monkeypatch):
    for name in (
        "make_shards",
        "read_examples",
        "run_loop",
        "write_corpus",
    ):  # a seed may take minutes to read
        monkeypatch.setattr(pipeline, name, None)
    assert run(mined[0], crawl).funnel == mined[1].funnel


def test_a_finished_run_whose_seed_is_gone_or_another_one_is_refused(mined, crawl, tmp_path):
    seed = tmp_path / crawl[1].name
    with pytest.raises(UserError, match=r"--seed .*seed\.jsonl: cannot be read \(No such file"):
        run(mined[0], crawl, seed=seed)
    content = crawl[1].read_text()
    seed.write_text(content.replace("algebra/5", "algebra/7"))
    with pytest.raises(UserError, match=r"another configuration: --seed .there .*seed\.jsonl of \d+ bytes"):
        run(mined[0], crawl, seed=seed)
    seed.write_text(content)
    assert run(mined[0], crawl, seed=seed).funnel == mined[1].funnel


def test_another_configuration_or_input_is_refused(mined, crawl, tmp_path):
    with pytest.raises(UserError, match=": --keep-share"):
        run(mined[0], crawl, replace(CONFIG, keep_share=0.3))
    with pytest.raises(UserError, match="benchmark"):
        run(mined[0], crawl, benchmarks=[BenchmarkText("other", "another text")])
    held_out = tmp_path / "held.jsonl"
    held_out.write_text('{"url": "https://a.org/"}\n')
    with pytest.raises(UserError, match="held-out"):
        run(mined[0], crawl, held_out=held_out)


def test_another_warc_of_the_same_name_and_size_is_refused(mined, crawl, tmp_path):
    other = tmp_path / crawl[0][0].name
    content = bytearray(crawl[0][0].read_bytes())
    content[4] ^= 1  # a time stamp of gzip
    other.write_bytes(content)
    with pytest.raises(UserError, match="warc"):
        run(mined[0], crawl, warcs=[other, *crawl[0][1:]])


def test_more_iterations_go_on_from_those_that_are_done(mined, crawl, tmp_path):
    one = run(tmp_path / "out", crawl, replace(CONFIG, iterations=1))
    assert len(one.funnel["iterations"]) == 1
    run(tmp_path / "out", crawl)
    after = contents(tmp_path / "out")
    assert {name for name, content in contents(mined[0]).items() if after[name] != content} == {"config.json"}


def test_annotations_made_after_an_iteration_count_in_the_next_one(mined, crawl, tmp_path):
    out, config = tmp_path / "out", replace(CONFIG, collect_rejected=False)
    run(out, crawl, replace(config, iterations=1))
    decisions = [("maths.org/", True), ("proofs.net/", False)]
    rows = [{"prefix": prefix, "accept": accept, "by": "ann"} for prefix, accept in decisions]
    (out / "annotations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(out, crawl, replace(config, iterations=2))
    tokens = {row["url"]: row["tokens"] for row in page_rows(out, "url", "tokens")}
    rejected = {text for url, text in tokens.items() if "proofs.net" in url}
    assert not training_lines(out, 1, "other") >= rejected
    assert training_lines(out, 2, "other") & rejected
    assert not any("proofs.net" in record["url"] for record in read_corpus(result.corpus))
    positives = {url for url, text in tokens.items() if text in training_lines(out, 2, "math")}
    first = {row["url"]: row["kept"] for row in read_rows(iteration_folder(out, 1) / "scores.jsonl.gz")}
    seed = {json.loads(line)["url"] for line in crawl[1].read_text().splitlines()}
    joined = {url for url, kept in first.items() if "maths.org" in url and not kept}
    assert positives == joined | seed


def test_an_annotation_made_while_an_iteration_runs_counts_in_the_next_one_and_a_bad_one_loses_nothing(
    mined, crawl, tmp_path, monkeypatch
):
    out, real, config = tmp_path / "out", iterate.measure, replace(CONFIG, stop_share=1.0)
    out.mkdir()
    rows = ["no decision\n", '{"prefix": "proofs.net/", "accept": false}\n']

    def annotated_meanwhile(*args):
        if rows:
            (out / "annotations.jsonl").write_text(rows.pop(0))
        return real(*args)

    monkeypatch.setattr(iterate, "measure", annotated_meanwhile)
    with pytest.raises(UserError, match=r"annotations\.jsonl:1: not a row"):
        run(out, crawl, replace(config, iterations=2))
    done = contents(iteration_folder(out, 1))
    assert done == contents(iteration_folder(mined[0], 1))
    (out / "annotations.jsonl").unlink()
    run(out, crawl, config)
    standing = [
        json.loads((iteration_folder(out, number) / "annotations.json").read_text()) for number in (2, 3)
    ]
    assert contents(iteration_folder(out, 1)) == done and list(map(list, standing)) == [[], ["proofs.net/"]]


def test_after_a_mistake_in_the_seed_the_same_folder_goes_on_with_its_pages(
    mined, crawl, tmp_path, monkeypatch
):
    seed = tmp_path / "seed.jsonl"
    seed.write_text('{"url": "https://not.in/crawl"}\n')
    with pytest.raises(UserError, match="none of its 1 urls"):
        run(tmp_path / "out", crawl, seed=seed)
    with pytest.raises(UserError, match="pages holds .* another configuration: --warc"):
        run(tmp_path / "out", crawl, warcs=crawl[0][:2])
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "make_shards", None)  # reading is what took hours
        run(tmp_path / "out", crawl)
    assert contents(tmp_path / "out") == contents(mined[0])
