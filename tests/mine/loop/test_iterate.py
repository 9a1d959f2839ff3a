"""The loop on a small crawl: what annotators say later counts more than what joined the seed by itself."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mine.annotate.annotations import Annotations, Decision, merge, read_annotations, read_standing
from dsm_jax.mine.config import MineConfig
from dsm_jax.mine.crawl import mapped_array
from dsm_jax.mine.duplicates import find_duplicates
from dsm_jax.mine.loop import score
from dsm_jax.mine.loop.classify import FastTextConfig
from dsm_jax.mine.loop.iterate import finished_iterations, iteration_folder, run_loop
from dsm_jax.mine.loop.seed import NO_EXAMPLES, Inputs
from dsm_jax.mine.web.urls import key_of
from tests.mine.conftest import MATH_WORDS, OTHER_WORDS

CONFIG = MineConfig(
    classifier=FastTextConfig(dim=8, lr=0.5, epoch=10, bucket=2000, min_count=1),
    iterations=2,
    stop_share=1.0,
    keep_tokens=(),
    keep_share=0.3,
    most_rejected=0.5,
    collect_rejected=False,
    domain_min_pages=5,
)


@pytest.fixture
def run(write_crawl, make_page, tmp_path):
    """A run's folder of 120 pages: 40 of mathematics on a.org and b.org, some folders of them mixed."""
    rng = Random(0)

    def text(words):
        return " ".join(rng.choices([*words, "the", "of", "is"], k=60))

    rows = [make_page(f"https://a.org/algebra/{i}", text(MATH_WORDS)) for i in range(20)]
    rows += [make_page(f"https://b.org/notes/{i}", text(MATH_WORDS)) for i in range(20)]
    rows += [make_page(f"https://b.org/notes/old/{i}", text(OTHER_WORDS)) for i in range(5)]
    rows += [make_page(f"https://site{i % 25}.com/{i}", text(OTHER_WORDS)) for i in range(75)]
    rng.shuffle(rows)
    write_crawl(tmp_path / "pages", [rows[:50], rows[50:]])
    find_duplicates(tmp_path / "pages", tmp_path / "duplicates.npy")
    seed = np.array(sorted(key_of(f"a.org/algebra/{i}") for i in range(15)), np.uint64)
    return tmp_path, rows, Inputs(replace(NO_EXAMPLES, url_keys=seed))


def urls_of(run, number, name):
    """URLs of the pages that an iteration has in NAME.npy."""
    out, rows, _ = run
    return {
        rows[i]["url"] for i in np.flatnonzero(mapped_array(iteration_folder(out, number) / f"{name}.npy"))
    }


def trained_on(run, number, label):
    """URLs of the pages in an iteration's training file under a label."""
    out, rows, _ = run
    url_of = {row["tokens"]: row["url"] for row in rows}
    lines = (iteration_folder(out, number) / "train.txt").read_text().splitlines()
    return {
        url_of[text]
        for found, _, text in (line.partition(" ") for line in lines)
        if found == f"__label__{label}"
    }


def loop(run, iterations, prefixes=None):
    out, _, inputs = run
    return run_loop(out, inputs, lambda: Annotations(prefixes or {}), replace(CONFIG, iterations=iterations))


def test_what_was_mostly_collected_joins_the_seed_until_an_annotator_rejects_it(run):
    assert loop(run, 2) == 2
    joined = urls_of(run, 2, "seed") - urls_of(run, 1, "seed")
    may = ("https://b.org/notes/", "https://a.org/algebra/")
    assert joined and all(url.startswith(may) and "old" not in url for url in joined)
    assert not joined & urls_of(run, 1, "kept") and joined <= trained_on(run, 2, "math")
    assert loop(run, 3, {"b.org/": False}) == 3
    assert urls_of(run, 3, "seed") == {url for url in urls_of(run, 2, "seed") if "b.org" not in url}
    for name in ("algebra", "b.org"):
        assert any(name in url for url in urls_of(run, 2, "kept"))
    assert not any("b.org" in url for url in urls_of(run, 3, "kept") | trained_on(run, 3, "math"))
    assert any("b.org" in url for url in trained_on(run, 3, "other"))


def test_what_an_annotator_accepted_leaves_the_seed_when_it_is_rejected(run):
    loop(run, 2, {"site1.com/": True})
    assert sum("site1.com" in url for url in trained_on(run, 2, "math")) == 3
    assert loop(run, 3, {"site1.com/": False}) == 3
    assert sum("site1.com" in url for url in trained_on(run, 3, "math")) == 0
    assert sum("site1.com" in url for url in trained_on(run, 3, "other")) == 3


@pytest.mark.parametrize("then", [{}, {"site1.com/": None}, {"site1.com/": True, "site1.com/1": False}])
def test_what_joined_by_an_annotation_leaves_when_the_acceptance_no_longer_stands(run, then):
    """Withdrawn, in conflict, or under a longer prefix that is rejected; the other pages of the prefix stay."""
    accepted = {f"https://site1.com/{i}" for i in (1, 26, 51)}
    loop(run, 2, {"site1.com/": True})
    assert accepted <= urls_of(run, 2, "seed") and accepted <= trained_on(run, 2, "math")
    loop(run, 3, then)
    stays = accepted - {"https://site1.com/1"} if then.get("site1.com/") else set()
    assert {url for url in urls_of(run, 3, "seed") if "site1.com" in url} == stays
    assert accepted & trained_on(run, 3, "math") == stays
    loop(run, 4, {"site1.com/": True})
    assert accepted <= urls_of(run, 4, "seed")


def test_what_joined_by_an_annotation_and_was_collected_since_stays_while_it_is_accepted(run):
    loop(run, 2, {"b.org/notes": True})
    joined = urls_of(run, 2, "seed") - urls_of(run, 1, "seed")
    assert joined & urls_of(run, 2, "kept") and all("b.org/notes" in url for url in joined)
    collected_first = {url for url in urls_of(run, 1, "kept") if "b.org" in url}
    assert collected_first and not collected_first & joined
    loop(run, 3, {"b.org/notes": True, "site1.com/": False})
    assert urls_of(run, 3, "seed") >= joined
    loop(run, 4, {"site1.com/": False})
    assert urls_of(run, 4, "seed") == urls_of(run, 1, "seed")


def test_what_joined_by_no_annotation_stays_whatever_is_annotated_elsewhere(run):
    loop(run, 2)
    joined = urls_of(run, 2, "seed")
    assert joined > urls_of(run, 1, "seed")
    other = {"https://site1.com/1", "https://site1.com/26", "https://site1.com/51"}
    loop(run, 3, {"site1.com/": True})
    assert urls_of(run, 3, "seed") == joined | other
    loop(run, 4, {"b.org/": True})  # accepted, and withdrawn: it is where it was
    assert urls_of(run, 4, "seed") >= joined and not urls_of(run, 4, "seed") & other
    loop(run, 5)
    assert urls_of(run, 5, "seed") >= joined


def test_the_users_own_seed_stays_whatever_is_rejected(run):
    loop(run, 2, {"a.org/": False})
    own = {f"https://a.org/algebra/{i}" for i in range(15)}
    assert trained_on(run, 2, "math") == own and not any("a.org" in url for url in urls_of(run, 2, "kept"))


def test_annotations_count_from_iteration_2_as_they_stood_when_it_began(run, monkeypatch):
    loop(run, 1, {"b.org/": False})
    assert any("b.org" in url for url in urls_of(run, 1, "kept"))
    with monkeypatch.context() as patch:
        patch.setattr(score, "_score_shard", None)
        with pytest.raises(TypeError):
            loop(run, 2, {"b.org/": False})
    loop(run, 2, {"b.org/": True})
    assert read_standing(iteration_folder(run[0], 2) / "annotations.json").prefixes == {"b.org/": False}
    assert not any("b.org" in url for url in urls_of(run, 2, "kept"))


def test_each_iteration_uses_what_stands_when_it_begins_as_a_new_start_would(run):
    out, _, inputs = run
    config = replace(CONFIG, iterations=4)

    def as_it_goes():
        return Annotations({f"site{finished_iterations(out)}.com/": False})

    assert run_loop(out, inputs, as_it_goes, config) == 4
    standing = [read_standing(iteration_folder(out, i) / "annotations.json").prefixes for i in range(1, 5)]
    assert standing == [{}, {"site1.com/": False}, {"site2.com/": False}, {"site3.com/": False}]
    for number in (2, 3, 4):
        assert any(f"site{number - 1}.com" in url for url in trained_on(run, number, "other"))


def test_annotations_that_cannot_be_read_meanwhile_end_the_loop_and_lose_nothing(run, tmp_path):
    out, _, inputs = run
    file = tmp_path / "annotations.jsonl"
    config = replace(CONFIG, iterations=3)
    file.write_text("no decision\n")
    with pytest.raises(UserError, match=r"annotations\.jsonl:1: not a row"):
        run_loop(out, inputs, lambda: read_annotations([file]), config)
    assert finished_iterations(out) == 1  # which uses none
    file.write_text('{"prefix": "site1.com/", "accept": false}\n')
    assert run_loop(out, inputs, lambda: read_annotations([file]), config) == 3
    file.write_text("no decision\n")  # after the last one nothing is read
    assert run_loop(out, inputs, lambda: read_annotations([file]), config) == 3


def test_the_loop_stops_when_nearly_all_was_there_and_goes_on_for_new_annotations(run):
    out, _, inputs = run
    config = replace(CONFIG, iterations=4, stop_share=0.0)
    assert run_loop(out, inputs, lambda: Annotations({}), config) == 2  # the first one has none before it
    assert run_loop(out, inputs, lambda: Annotations({}), config) == 2
    assert run_loop(out, inputs, lambda: Annotations({"site1.com/": False}), config) == 3
    assert (
        run_loop(out, inputs, lambda: Annotations({"site1.com/": False}), config)
        == 3
        == finished_iterations(out)
    )


def test_an_iteration_keeps_who_decided_and_one_more_of_the_same_mind_makes_no_iteration(run):
    out, _, inputs = run
    config = replace(CONFIG, iterations=4, stop_share=0.0)
    ann, bob = (Decision("site1.com/", False, name, "2024-05-31T12:00:00Z") for name in ("ann", "bob"))
    assert run_loop(out, inputs, lambda: merge([[ann]]), config) == 2
    assert run_loop(out, inputs, lambda: merge([[ann], [bob]]), config) == 2
    cal = replace(ann, accept=True, by="cal")
    assert run_loop(out, inputs, lambda: merge([[cal], [bob]]), config) == 3  # a conflict
    votes = [read_standing(iteration_folder(out, number) / "annotations.json").votes for number in (1, 2, 3)]
    assert votes == [{}, {"site1.com/": (ann,)}, {"site1.com/": (bob, cal)}]


def test_an_iteration_collects_its_budget_by_score(run):
    out, rows, _ = run
    loop(run, 1)
    scores = mapped_array(iteration_folder(out, 1) / "scores.npy")
    kept = mapped_array(iteration_folder(out, 1) / "kept.npy")
    assert kept.sum() == int(0.3 * len(rows))  # pages of as many words
    assert scores[kept].min() >= scores[~kept].max()


class Killed(BaseException):
    pass


def test_killed_after_scoring_the_restart_leaves_the_same_files(run, monkeypatch):
    def dies(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(score.shutil, "rmtree", dies)
        with pytest.raises(Killed):
            loop(run, 1)
    loop(run, 1)
    names = {path.name for path in iteration_folder(run[0], 1).iterdir()}
    assert "scores.npy" in names and "scores.parts" not in names


def test_a_model_made_anew_in_the_same_place_is_loaded_anew(run):
    """Two runs of a notebook into one folder, the first one deleted."""
    out, _, inputs = run
    loop(run, 1)
    once = np.array(mapped_array(iteration_folder(out, 1) / "scores.npy"))
    for path in iteration_folder(out, 1).iterdir():
        path.unlink()
    config = replace(CONFIG, iterations=1, rng_seed=5, classifier=replace(CONFIG.classifier, epoch=1))
    run_loop(out, inputs, lambda: Annotations({}), config)
    again = np.array(mapped_array(iteration_folder(out, 1) / "scores.npy"))
    assert not np.array_equal(once, again)
