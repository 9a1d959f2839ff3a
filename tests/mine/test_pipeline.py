import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import tensorflow_datasets as tfds

from dsm_jax.errors import UserError
from dsm_jax.mine import pages, pipeline
from dsm_jax.mine.config import MineConfig
from dsm_jax.mine.corpus import clean
from dsm_jax.mine.corpus.decontaminate import Benchmarks, BenchmarkText
from dsm_jax.mine.corpus.export import read_corpus, write_corpus
from dsm_jax.mine.crawl import mapped_array
from dsm_jax.mine.loop import score
from dsm_jax.mine.loop.iterate import iteration_folder
from dsm_jax.mine.tasks import HERE, Spread
from dsm_jax.mine.tokens import fasttext_tokens
from tests.mine.mining_runs import CONFIG, contents, page_rows, read_rows, run, training_lines


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
    with pytest.raises(UserError, match=r"classifier.bucket 2,000,000 .* take 2\.0 GB, and 2\.0 GB"):
        run(tmp_path / "out", crawl, MineConfig())
    assert not (tmp_path / "out").exists()
