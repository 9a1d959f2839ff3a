import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dsm_jax.errors import UserError
from dsm_jax.mine import package_docs
from dsm_jax.mine.config import PRESETS
from dsm_jax.mine.export import read_corpus
from dsm_jax.mine.pipeline import mine
from dsm_jax.mine.read import index_warc, read_block

PLANTED = [
    f"Nora packs {n + 3} boxes with {2 * n + 5} lamps each and sells {n} of them. How many lamps are left?"
    for n in range(20)
]


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    out = tmp_path_factory.mktemp("docs") / "out"
    return out, mine(PRESETS["smoke"], out, benchmark_texts=PLANTED, planted_texts=PLANTED)


def test_all_planted_problems_are_caught(mined):
    _, result = mined
    assert result.funnel["planted"]["texts"] == result.funnel["planted"]["caught"] == 20
    assert not any("Nora packs" in record["text"] for record in read_corpus(result.corpus))


def test_the_seed_finds_mathematics_outside_itself(mined):
    _, result = mined
    assert result.funnel["precision_outside_seed"] >= 0.7 and "sympy" in result.funnel["domains"]


def test_precision_is_also_counted_without_the_seeds_own_host(mined):
    _, result = mined
    last = result.funnel["iterations"][-1]
    assert 0 < last["kept_outside_seed_hosts"] < last["kept_outside_seed"]
    assert result.funnel["precision_outside_seed_hosts"] == last["precision_outside_seed_hosts"]
    assert last["precision_outside_seed_hosts"] < last["precision_outside_seed"]  # sympy is all right


@pytest.mark.slow
def test_the_held_out_questions_are_caught_and_a_missed_one_is_an_error(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "experiments"))
    from small_model import TINY_MODEL, held_out

    questions = [problem.question for problem in held_out(TINY_MODEL, 1000)]
    options = {"benchmark_texts": questions, "planted_texts": questions[:20]}
    funnel = mine(PRESETS["smoke"], tmp_path / "a", **options).funnel
    assert funnel["planted"]["texts"] == funnel["planted"]["caught"] == 20
    options["benchmark_texts"] = [text for text in questions if text != questions[7]]
    with pytest.raises(UserError, match="missed a planted text") as caught:
        mine(PRESETS["smoke"], tmp_path / "b", **options)
    assert questions[7] in str(caught.value) and not (tmp_path / "b" / "corpus").exists()


def test_after_a_mistake_before_any_stage_the_same_folder_takes_the_corrected_command(tmp_path):
    few = replace(PRESETS["smoke"], docs_packages=("mpmath",))
    with pytest.raises(UserError, match="planting 20"):
        mine(few, tmp_path / "out", benchmark_texts=PLANTED, planted_texts=PLANTED)
    with pytest.raises(UserError, match="planting 1 "):
        mine(few, tmp_path / "out", benchmark_texts=PLANTED, planted_texts=PLANTED[:1])


def test_pages_are_docstrings_under_the_module_path(mined):
    out, _ = mined
    page_of = {}
    for path in sorted((out / "crawl").glob("*.warc.gz")):
        for block in index_warc(path)[0]:
            read = read_block(block)
            assert not read.skipped
            page_of |= {page.url: page.body.decode() for page in read.pages}
    assert "https://rich/console" in page_of or "https://rich/table" in page_of
    assert all("<main>" in body for body in page_of.values())


def test_the_same_packages_give_the_same_crawl(tmp_path):
    config = replace(PRESETS["smoke"], docs_packages=("packaging", "mpmath"), docs_pages_per_package=5)
    written = [
        [path.read_bytes() for path in package_docs.crawl(tmp_path / name, config)] for name in ("a", "b")
    ]
    assert written[0] == written[1] and all(written[0])


def test_missing_packages_and_too_few_pages_to_plant_are_the_users_mistake(tmp_path):
    with pytest.raises(UserError, match="nosuchpackage"):
        package_docs.crawl(tmp_path / "a", replace(PRESETS["smoke"], docs_packages=("nosuchpackage",)))
    with pytest.raises(UserError, match="planting 20"):
        package_docs.crawl(tmp_path / "b", replace(PRESETS["smoke"], docs_packages=("mpmath",)), PLANTED)


def test_mining_starts_no_jax_backend():
    code = (
        "import sys, dsm_jax.mine.pipeline, dsm_jax.mine.package_docs\n"
        "jax = sys.modules.get('jax')\n"
        "assert jax is None or not jax._src.xla_bridge._backends\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
