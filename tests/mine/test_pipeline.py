import gzip
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds

from dsm_jax.errors import UserError
from dsm_jax.mine import duplicates, pages, pipeline
from dsm_jax.mine.config import MineConfig
from dsm_jax.mine.corpus import clean
from dsm_jax.mine.corpus.decontaminate import Benchmarks, BenchmarkText
from dsm_jax.mine.corpus.export import read_corpus, write_corpus
from dsm_jax.mine.crawl import Crawl, mapped_array
from dsm_jax.mine.loop import iterate, marks, score, scores_file
from dsm_jax.mine.loop.classify import FastTextConfig
from dsm_jax.mine.loop.iterate import iteration_folder
from dsm_jax.mine.pipeline import Examples, Sources, mine
from dsm_jax.mine.tasks import HERE, Spread
from dsm_jax.mine.tokens import fasttext_tokens

CONFIG = MineConfig(
    classifier=FastTextConfig(dim=8, lr=0.5, epoch=10, bucket=2000),
    iterations=3,
    negatives_by="domain",
    keep_tokens=(),
    keep_share=0.35,
    domain_min_pages=10,
    grams_need_words=True,
)


def run(out, crawl, config=CONFIG, *, warcs=None, seed=None, negatives=(), held_out=None, **options):
    sources = Sources(tuple(map(str, warcs or crawl[0])))
    return mine(config, out, sources, Examples((seed or crawl[1],), negatives, held_out), **options)


def read_rows(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def page_rows(out, *names):
    crawl = Crawl(out / "pages")
    return [row for _, row in crawl.rows(range(crawl.count), *names)]


def contents(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()
    }


@pytest.fixture(scope="module")
def mined(crawl, tmp_path_factory):
    out = tmp_path_factory.mktemp("mined") / "out"
    return out, run(out, crawl)


def test_every_page_and_iteration_has_its_row(mined):
    _, result = mined
    rows = read_rows(result.scores)
    last = max(row["iteration"] for row in rows)
    assert last >= 2 and len(rows) == 160 * last
    final = [row for row in rows if row["iteration"] == last]
    kept = [row for row in final if row["kept"]]
    assert len(kept) == int(CONFIG.keep_share * 159)  # pages of as many words, one a duplicate
    assert {row["domain"] for row in kept} == {"maths.org", "proofs.net"}
    left = [row["score"] for row in final if not row["kept"] and "duplicate_of" not in row]
    assert max(left) <= min(row["score"] for row in kept)
    copies = [row for row in rows if "duplicate_of" in row]
    assert len(copies) == last and not any(row["kept"] for row in copies)
    scores = {(row["url"], row["iteration"]): row["score"] for row in rows}
    assert all(row["score"] == scores[row["duplicate_of"], row["iteration"]] for row in copies)


def test_the_funnel_adds_up(mined, crawl):
    out, result = mined
    funnel = result.funnel
    assert funnel["pages_in"] == 160 and funnel["duplicates"] == 1 and funnel["seed_pages"] == 15
    assert funnel["pages_kept"] == funnel["iterations"][-1]["pages_kept"] == len(read_corpus(result.corpus))
    assert funnel["tokens_kept"] <= CONFIG.keep_share * funnel["tokens_in"]
    assert {"maths.org", "proofs.net"} <= set(funnel["domains"])
    assert funnel["iterations"][0]["share_already_there"] == 0.0
    assert json.loads((out / "funnel.json").read_text()) == funnel


def test_corpus_reads_back_with_provenance_and_through_tfds(mined):
    out, result = mined
    corpus = read_corpus(result.corpus)
    records = list(corpus)
    kept = {
        row["url"]
        for row in read_rows(result.scores)
        if row["kept"] and row["iteration"] == len(result.funnel["iterations"])
    }
    assert {record["url"] for record in records} == kept and corpus[-1] == records[-1]
    source = tfds.builder_from_directory(str(result.corpus)).as_data_source("train")
    assert [example["text"].decode() for example in source] == [record["text"] for record in records]
    texts = {
        (row["source"], row["offset"]): row["text"] for row in page_rows(out, "source", "offset", "text")
    }
    assert all(texts[record["warc"], record["offset"]] == record["text"] for record in records)


def test_every_process_writes_the_same_corpus_bytes(tmp_path):
    code = (
        "import sys; from pathlib import Path; from dsm_jax.mine.corpus.export import write_corpus\n"
        "row = dict(text='t', url='u', warc='w', offset=1, score=0.5, iteration=1, language='l')\n"
        "write_corpus([row] * 3, Path(sys.argv[1]))"
    )
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True, timeout=60)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_negatives_leave_out_what_was_collected(mined):
    out, _ = mined
    collected = {row["url"] for row in read_rows(iteration_folder(out, 1) / "scores.jsonl.gz") if row["kept"]}
    tokens = {row["url"]: row["tokens"] for row in page_rows(out, "url", "tokens")}
    negatives = training_lines(out, 2, "other")
    assert negatives and not negatives & {tokens[url] for url in collected}


def training_lines(out, number, label):
    lines = (iteration_folder(out, number) / "train.txt").read_text().splitlines()
    start = f"__label__{label} "
    return {line.removeprefix(start) for line in lines if line.startswith(start)}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.slow
def test_worker_processes_change_no_byte(mined, crawl, tmp_path, workers):
    run(tmp_path / "out", crawl, spread=Spread(workers))
    assert contents(tmp_path / "out") == contents(mined[0])


@pytest.mark.slow
def test_beam_changes_no_byte(mined, crawl, tmp_path):
    pytest.importorskip("apache_beam")
    run(tmp_path / "out", crawl, spread=Spread(beam=("--runner=DirectRunner",)))
    assert contents(tmp_path / "out") == contents(mined[0])


def test_worker_processes_make_the_same_shards(mined, crawl, tmp_path):
    pages.make_shards(list(map(str, crawl[0])), tmp_path / "pages", spread=Spread(2))
    made = contents(mined[0] / "pages")
    assert contents(tmp_path / "pages") == {name: made[name] for name in made if name != "config.json"}


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
def test_killed_at_any_stage_the_restart_ends_in_the_same_bytes(
    mined, crawl, tmp_path, monkeypatch, module, name, calls
):
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
    run(out, crawl)
    assert contents(out) == contents(mined[0])


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


def test_the_tasks_of_a_stage_open_no_shard_but_their_own(mined, crawl, tmp_path, monkeypatch):
    """A hundred thousand tasks that each looked at all shards would never end."""
    opened, real = [], pq.read_metadata
    monkeypatch.setattr(pq, "read_metadata", lambda file: (opened.append(file), real(file))[1])
    first = mapped_array(mined[0] / "duplicates.npy")
    score.score_pages(
        mined[0] / "pages", first, mined[0] / "iteration-01" / "classifier.bin", tmp_path / "s.npy"
    )
    assert len(opened) <= 3
    copied = tmp_path / "out"
    shutil.copytree(mined[0], copied)
    opened.clear()
    cleaner = clean.Cleaner(copied, len(mined[1].funnel["iterations"]), Benchmarks([]), ())
    clean.clean_pages(cleaner, HERE)
    assert len(opened) <= 3


def test_cleaned_shards_are_read_in_the_order_of_their_numbers(tmp_path):
    for number in (100_000, 99_999):
        (tmp_path / f"{number}.hits.jsonl").write_bytes(b"%d\n" % number)
    assert list(clean.hit_lines(tmp_path)) == [b"99999\n", b"100000\n"]


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


def test_held_out_pages_are_scored_and_in_no_training_set(crawl, tmp_path):
    seed = [json.loads(line)["url"] for line in crawl[1].read_text().splitlines()]
    urls = [*seed[:5], *(f"https://site{i % 50}.com/{i}" for i in range(40))]
    held_out = tmp_path / "held.jsonl"
    labels = ["math"] * 5 + ["other"] * 40
    rows = zip(urls, labels, strict=True)
    held_out.write_text("".join(json.dumps({"url": url, "label": label}) + "\n" for url, label in rows))
    result = run(tmp_path / "out", crawl, held_out=held_out)
    tokens = {row["url"]: row["tokens"] for row in page_rows(tmp_path / "out", "url", "tokens")}
    for number, row in enumerate(result.funnel["iterations"], start=1):
        lines = training_lines(tmp_path / "out", number, "math") | training_lines(
            tmp_path / "out", number, "other"
        )
        assert len(lines) >= 20 and not lines & {tokens[url] for url in urls}
        assert row["average_precision"] > 0.9
    assert set(urls) <= {row["url"] for row in read_rows(result.scores)}


@pytest.mark.parametrize(("given", "label"), [("seed", "math"), ("negatives", "other")])
def test_rows_of_url_and_text_stand_for_their_pages_and_those_of_held_out_urls_are_trained_on_nowhere(
    crawl, tmp_path, given, label
):
    """As OpenWebMath's rows are: the text is another extractor's and equals no page's."""
    urls = [json.loads(line)["url"] for line in crawl[1].read_text().splitlines()]
    if given == "negatives":
        urls = [f"https://site{i % 50}.com/{i}" for i in range(15)]
    urls.append("https://not.in/crawl")
    held = [*urls[:3], "https://nor.this/one"]
    held_out, rows = tmp_path / "held.jsonl", tmp_path / "rows.jsonl"
    held_out.write_text("".join(json.dumps({"url": url}) + "\n" for url in held))
    texts = {url: f"theirs {''.join(chr(97 + int(c)) for c in str(i))}" for i, url in enumerate(urls + held)}
    rows.write_text("".join(json.dumps({"url": url, "text": text}) + "\n" for url, text in texts.items()))
    options = {"seed": rows} if given == "seed" else {"negatives": (rows,)}
    run(tmp_path / "out", crawl, replace(CONFIG, iterations=1), held_out=held_out, **options)
    tokens = {row["url"]: row["tokens"] for row in page_rows(tmp_path / "out", "url", "tokens")}
    trained_on = training_lines(tmp_path / "out", 1, label)
    assert trained_on == {tokens[url] for url in urls[3:-1]} | {texts["https://not.in/crawl"]}


def test_negatives_of_the_user_take_the_place_of_random_pages(crawl, tmp_path):
    texts = [
        f"coach season ticket number {word}" for word in ("one", "two", "three", "four", "five", "six")
    ] * 3
    negatives = tmp_path / "negatives.jsonl"
    urls = ["https://site3.com/3", "https://site4.com/4"]
    rows = [*({"text": text} for text in texts), *({"url": url} for url in urls)]
    negatives.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(tmp_path / "out", crawl, replace(CONFIG, iterations=1), negatives=(negatives,))
    tokens = {row["url"]: row["tokens"] for row in page_rows(tmp_path / "out", "url", "tokens")}
    given = {fasttext_tokens(text) for text in texts} | {tokens[url] for url in urls}
    assert training_lines(tmp_path / "out", 1, "other") == given


def test_benchmark_text_in_kept_pages_is_cut_and_reported(mined, crawl, tmp_path):
    victim = read_corpus(mined[1].corpus)[0]
    problem = " ".join(victim["text"].split()[5:25])
    benchmarks = [BenchmarkText("ours", problem), BenchmarkText("ours", "no such words anywhere at all")]
    result = run(tmp_path / "out", crawl, benchmarks=benchmarks)
    assert victim["url"] not in {record["url"] for record in read_corpus(result.corpus)}
    hits = read_rows(tmp_path / "out" / "contamination.jsonl.gz")
    assert [(hit["url"], hit["rule"], hit["benchmark"]) for hit in hits] == [(victim["url"], "A", problem)]
    assert problem in hits[0]["page"]
    assert result.funnel["contamination"]["hits"] == 1


def test_a_seed_of_the_pages_texts_does_what_their_urls_do(mined, crawl, tmp_path):
    out, result = mined
    wanted = {json.loads(line)["url"] for line in crawl[1].read_text().splitlines()}
    texts = [row["text"] for row in page_rows(out, "url", "text") if row["url"] in wanted]
    seed = tmp_path / "seed.jsonl"
    seed.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    by_text = run(tmp_path / "out", crawl, seed=seed)
    assert by_text.scores.read_bytes() == result.scores.read_bytes()
    assert by_text.funnel == result.funnel


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no usable text"),
        ('{"text": "12 34"}\n', "no usable text"),
        ('{"url": "https://not.in/crawl"}\n', "none of its 1 urls"),
        ('{"page": 1}\n', r"seed\.jsonl:1"),
        ('{"text": "ring"}\nnot json\n', r"seed\.jsonl:2"),
    ],
)
def test_a_bad_seed_is_one_line(crawl, tmp_path, content, message):
    seed = tmp_path / "seed.jsonl"
    seed.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path / "out", crawl, seed=seed)
    assert "\n" not in str(caught.value)


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


def test_other_bad_input_is_one_line(crawl, tmp_path, make_warc):
    with pytest.raises(UserError, match="no such file"):
        run(tmp_path / "b", crawl, warcs=[tmp_path / "none.warc.gz"])
    picture = make_warc(tmp_path / "p.warc", [("https://a.org/", b"\x89PNG")])
    picture.write_bytes(
        picture.read_bytes().replace(b"text/html; charset=utf-8", b"image/png; charset=utf-8")
    )
    with pytest.raises(UserError, match="no readable HTML page.*1 not html"):
        run(tmp_path / "c", crawl, warcs=[picture])
    with pytest.raises(UserError, match="empty"):
        run(tmp_path / "d", crawl, replace(CONFIG, keep_tokens=(3,)))
    with pytest.raises(UserError, match="empty after filtering"):
        write_corpus([], tmp_path / "corpus")
    with pytest.raises(UserError, match="keep-share"):
        replace(CONFIG, keep_share=1.5)
    with pytest.raises(UserError, match="no negative page"):
        run(tmp_path / "e", crawl, replace(CONFIG, keep_share=1.0, keep_tokens=(10**9,)))


def test_a_classifier_over_the_free_memory_is_refused_before_any_work(crawl, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "free_host_memory", lambda: 2e9)
    with pytest.raises(UserError, match=r"classifier.bucket 2,000,000 .* takes 2\.0 GB, and 2\.0 GB"):
        run(tmp_path / "out", crawl, MineConfig())
    assert not (tmp_path / "out").exists()
