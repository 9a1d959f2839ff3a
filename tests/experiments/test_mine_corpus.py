"""What mine_corpus.py prints, on a crawl of 60 pages: its table, what was not used, and mistakes in one line."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from dsm_jax import cli
from tests.experiments.killed import kill_twice
from tests.experiments.scripts import load_script
from tests.mine.conftest import MATH_WORDS, OTHER_WORDS, html, record


@pytest.fixture(scope="module")
def script():
    return load_script("mine_corpus")


@pytest.fixture(scope="module")
def crawl(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("crawl"), random.Random(0)
    words = {"maths.org": MATH_WORDS, "news.com": OTHER_WORDS}
    pages = [
        (f"https://{site}/p/{i}", " ".join(rng.choices(words[site], k=80)))
        for site in words
        for i in range(30)
    ]
    (folder / "crawl.warc").write_bytes(b"".join(record(url, html(text)) for url, text in pages))
    (folder / "seed.jsonl").write_text("".join(json.dumps({"url": url}) + "\n" for url, _ in pages[:10]))
    rows = [{"url": url, "label": "math" if "maths" in url else "other"} for url, _ in pages[20:40]]
    (folder / "held.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "benchmarks").mkdir()
    for name in ("gsm8k_test.jsonl", "train.jsonl", "mine.jsonl"):
        (folder / "benchmarks" / name).write_text('{"question": "What is 3 + 4?", "answer": "#### 7"}\n')
    return folder


def run(script, crawl, out, *options):
    """With the smoke preset's small classifier; the options may repeat one of these and win."""
    given = [
        "--preset",
        "smoke",
        "--warc",
        crawl / "crawl.warc",
        "--seed",
        crawl / "seed.jsonl",
        "--out",
        out,
        *options,
    ]
    cli.run_script(script.main, script.PRESET_CONFIGS, list(map(str, given)))


def error_line(script, crawl, capsys, out, *options):
    with pytest.raises(SystemExit) as end:
        run(script, crawl, out, *options)
    err = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and err[-1].startswith("error: ")
    return err[-1]


def test_the_table_stands_in_columns_and_says_what_was_decontaminated(script, crawl, tmp_path, capsys):
    files = ("--benchmarks", crawl / "benchmarks", "--held-out", crawl / "held.jsonl")
    run(script, crawl, tmp_path / "a", *files, "--iterations", "1")
    printed = capsys.readouterr()
    header, row, *rest = printed.out.splitlines()
    ends = [[match.end() for match in re.finditer(r"\S+(?: \S+)*", line)] for line in (header, row)]
    assert ends[0] == ends[1] and header.endswith("held-out AP") and row.endswith("%")
    assert "0 lines removed as benchmark text" in rest[0] and "--iterations 2 " in rest[-1]
    assert "benchmarks: gsm8k 1\n" in printed.err
    (warning,) = [line for line in printed.err.splitlines() if line.startswith("warning: ")]
    assert "mine.jsonl" in warning and "train.jsonl" in warning and "gsm8k_test.jsonl," not in warning


def test_without_benchmarks_and_labels_the_end_says_so(script, crawl, tmp_path, capsys):
    run(script, crawl, tmp_path / "a", "--iterations", "1")
    printed = capsys.readouterr().out
    assert "NOT decontaminated" in printed and "benchmark text" not in printed and "held-out" not in printed


def test_mistakes_name_the_option_as_it_is_typed(script, crawl, tmp_path, capsys):
    out = tmp_path / "a"
    line = error_line(script, crawl, capsys, out, "--language-model", tmp_path / "lid.bin")
    assert "--language-model" in line and "no such file" in line and not out.exists()
    run(script, crawl, out, "--iterations", "1")
    assert ": --min-score (there 0.5, now 0.4); " in error_line(
        script, crawl, capsys, out, "--min-score", "0.4"
    )
    assert ": --classifier.dim (" in error_line(script, crawl, capsys, out, "--classifier.dim", "7")
    (tmp_path / "a.csv").write_text("prefix,accept\nmaths.org/p/,maybe\n")
    line = error_line(script, crawl, capsys, out, "--annotations", tmp_path / "a.csv")
    assert line.endswith("a.csv:2: accept is 'maybe': give true or false (null: withdrawn)")


def test_a_runner_that_cannot_be_is_said_before_anything_is_written(script, crawl, tmp_path, capsys):
    out = tmp_path / "a"
    line = error_line(script, crawl, capsys, out, "--runner", "DirectRunner", "--runner-options", "'a b")
    assert "--runner-options 'a b" in line and "quotation" in line
    pytest.importorskip("apache_beam", reason="Apache Beam is not here: pip install -e .[beam]")
    line = error_line(script, crawl, capsys, out, "--runner", "NoSuchRunner")
    assert "--runner NoSuchRunner: " in line and "DirectRunner" in line and not out.exists()


ROOT = Path(__file__).parents[2]
OUTPUTS = (
    "corpus/math_corpus-train.array_record-00000-of-00001",
    "scores.jsonl.gz",
    "contamination.jsonl.gz",
    "funnel.json",
    "iteration-01/samples.jsonl.gz",
)


@pytest.mark.slow
def test_smoke_killed_twice_ends_in_the_same_bytes(crawl, tmp_path):
    command = ["experiments/mine_corpus.py", "--preset", "smoke", "--out", "{out}"]
    command += ["--warc", crawl / "crawl.warc", "--seed", crawl / "seed.jsonl", "--domain-min-pages", "5"]
    kill_twice(tmp_path / "drill", command, compare=OUTPUTS, writes="iteration-")


@pytest.mark.slow
def test_the_benchmark_of_mining_runs(tmp_path):
    command = [sys.executable, "experiments/bench_mining.py", "--preset", "smoke", "--json"]
    done = subprocess.run(
        [*command, str(tmp_path / "bench.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={name: value for name, value in os.environ.items() if name != "DSM_DATA"},
    )
    assert done.returncode == 0, done.stderr
    numbers = json.loads((tmp_path / "bench.json").read_text())
    keys = {
        "warc_to_text_pages_per_s",
        "warc_to_score_pages_per_s",
        "classify_share_of_fasttext",
        "decontaminate_mb_per_s",
    }
    assert all(numbers[key] > 0 for key in keys)
