"""The offline crawl of the installed packages, and the corpus from it: planted problems are caught, precision is counted."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from dsm_jax.errors import UserError
from dsm_jax.mine import package_docs
from dsm_jax.mine.config import PRESETS
from dsm_jax.mine.corpus.decontaminate import BenchmarkText
from dsm_jax.mine.corpus.export import read_corpus
from dsm_jax.mine.package_corpus import mine_package_docs
from dsm_jax.mine.package_docs import MATH_HOSTS, SEED, DocsConfig, is_seed
from dsm_jax.mine.web.read import index_warc, read_block
from dsm_jax.run import DONE, read_json

# Some that are mathematics, some that are not.
DOCS = DocsConfig(40, ("absl", "etils", "mpmath", "packaging", "rich", "sympy", "tyro"))
PLANTED = [
    f"Nora packs {n + 3} boxes with {2 * n + 5} lamps each and sells {n} of them. How many lamps are left?"
    for n in range(20)
]


def benchmarks(texts):
    return [BenchmarkText("generated", text) for text in texts]


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    out = tmp_path_factory.mktemp("docs") / "out"
    return out, mine_package_docs(PRESETS["smoke"], DOCS, out, benchmarks(PLANTED), PLANTED)


def test_all_planted_problems_are_caught(mined):
    _, result = mined
    planted = result.funnel["planted"]
    assert planted["texts"] == planted["caught"] == 20 and 0 < planted["in_kept_pages"] <= 20
    assert not any("Nora packs" in record["text"] for record in read_corpus(result.corpus))


def test_the_problems_were_in_their_pages_before(mined):
    """Or nothing would be caught."""
    out, _ = mined
    page_of = {page.url: page.body.decode() for page in crawled(out)}
    urls = read_json(out / "crawl" / DONE)["planted"]
    assert len(urls) == len(set(urls)) == 20 and all(map(is_seed, urls))
    for url, text in zip(urls, PLANTED, strict=True):
        assert [other for other in PLANTED if other in page_of[url]] == [text]


def crawled(out):
    for path in sorted((out / "crawl").glob("*.warc.gz")):
        for block in index_warc(path)[0]:
            read = read_block(block)
            assert not read.skipped
            yield from read.pages


def test_the_seed_finds_mathematics_outside_itself(mined):
    _, result = mined
    assert result.funnel["precision_outside_seed"] >= 0.7 and "sympy" in result.funnel["domains"]


def test_precision_is_counted_from_the_scores_of_each_iteration(mined):
    out, result = mined
    assert len(result.funnel["iterations"]) >= 2
    for row in result.funnel["iterations"]:
        with gzip.open(out / f"iteration-{row['iteration']:02d}" / "scores.jsonl.gz") as file:
            scores = list(map(json.loads, file))
        outside = [one for one in scores if one["kept"] and not is_seed(one["url"])]
        hosts = [one for one in outside if one["domain"] != "sympy"]
        for name, some in (("seed", outside), ("seed_hosts", hosts)):
            right = sum(one["domain"] in MATH_HOSTS for one in some)
            assert row[f"kept_outside_{name}"] == len(some)
            assert row[f"precision_outside_{name}"] == pytest.approx(right / len(some), abs=1e-6)
    assert (
        result.funnel["precision_outside_seed"] == result.funnel["iterations"][-1]["precision_outside_seed"]
    )


def test_precision_is_also_counted_without_the_seeds_own_host(mined):
    _, result = mined
    last = result.funnel["iterations"][-1]
    assert 0 < last["kept_outside_seed_hosts"] < last["kept_outside_seed"]
    assert result.funnel["precision_outside_seed_hosts"] == last["precision_outside_seed_hosts"]
    assert last["precision_outside_seed_hosts"] < last["precision_outside_seed"]  # sympy is all right


def test_a_second_start_does_nothing_and_says_the_same(mined, monkeypatch):
    out, result = mined
    monkeypatch.setattr("dsm_jax.mine.package_corpus._judge", None)
    assert mine_package_docs(PRESETS["smoke"], DOCS, out, benchmarks(PLANTED), PLANTED) == result


def test_another_crawl_in_the_same_folder_is_refused(mined):
    out, _ = mined
    for docs, planted in ((DocsConfig(41, DOCS.packages), PLANTED), (DOCS, PLANTED[1:])):
        with pytest.raises(UserError, match="give another --out"):
            mine_package_docs(PRESETS["smoke"], docs, out, benchmarks(PLANTED), planted)


@pytest.mark.slow
def test_the_held_out_questions_are_caught_and_a_missed_one_is_an_error(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "experiments"))
    from small_model import TINY_MODEL, held_out

    questions = [problem.question for problem in held_out(TINY_MODEL, 1000)]
    mined = mine_package_docs(PRESETS["smoke"], DOCS, tmp_path / "a", benchmarks(questions), questions[:20])
    assert mined.funnel["planted"]["texts"] == mined.funnel["planted"]["caught"] == 20
    others = benchmarks(text for text in questions if text != questions[7])
    with pytest.raises(UserError, match="missed a planted text") as caught:
        mine_package_docs(PRESETS["smoke"], DOCS, tmp_path / "b", others, questions[:20])
    assert questions[7] in str(caught.value) and "\n" not in str(caught.value)


def test_after_a_mistake_before_any_stage_the_same_folder_takes_the_corrected_command(tmp_path):
    few, out = DocsConfig(packages=("mpmath",)), tmp_path / "out"
    with pytest.raises(UserError, match="planting 20"):
        mine_package_docs(PRESETS["smoke"], few, out, benchmarks(PLANTED), PLANTED)
    with pytest.raises(UserError, match="planting 1 "):
        mine_package_docs(PRESETS["smoke"], few, out, benchmarks(PLANTED), PLANTED[:1])
    docs = DocsConfig(12, DOCS.packages)
    assert mine_package_docs(PRESETS["smoke"], docs, out, benchmarks(PLANTED), PLANTED[:1]).funnel[
        "pages_kept"
    ]


def test_pages_are_docstrings_under_the_module_path(mined):
    out, _ = mined
    page_of = {page.url: page.body.decode() for page in crawled(out)}
    assert "https://rich/console" in page_of or "https://rich/table" in page_of
    assert all("<main>" in body for body in page_of.values())
    counts = [sum(url.startswith(f"https://{name}/") for url in page_of) for name in DOCS.packages]
    assert max(counts) == DOCS.pages_per_package and min(counts) > 0 and sum(counts) == len(page_of)


def test_the_seed_is_half_of_sympys_pages(mined):
    out, _ = mined
    seed = [json.loads(line)["url"] for line in (out / "crawl" / SEED).read_text().splitlines()]
    pages = [page.url for page in crawled(out) if page.url.startswith("https://sympy/")]
    assert 0.3 < len(seed) / len(pages) < 0.7 and set(seed) == set(filter(is_seed, pages))


def test_the_same_packages_give_the_same_crawl(tmp_path):
    docs = DocsConfig(5, ("packaging", "mpmath"))
    written = [
        [path.read_bytes() for path in package_docs.crawl(tmp_path / name, docs)] for name in ("a", "b")
    ]
    assert written[0] == written[1] and all(written[0])


def test_missing_packages_and_too_few_pages_to_plant_are_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="--docs.packages nosuchpackage: not installed"):
        package_docs.crawl(tmp_path / "a", DocsConfig(packages=("nosuchpackage",)))
    with pytest.raises(UserError, match="planting 20"):
        package_docs.crawl(tmp_path / "b", DocsConfig(packages=("mpmath",)), PLANTED)
    with pytest.raises(UserError, match="--docs.pages-per-package 0"):
        DocsConfig(0)


def test_mining_starts_no_jax_backend():
    code = (
        "import sys, dsm_jax.mine.pipeline, dsm_jax.mine.package_docs\n"
        "jax = sys.modules.get('jax')\n"
        "assert jax is None or not jax._src.xla_bridge._backends\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
