import gzip
import json
import random

import pytest

from dsm_jax.errors import UserError
from dsm_jax.mine.annotate.candidates import load_candidates, newest_iteration
from tests.mine.annotate.candidate_files import invented_pages, page, write_iteration


@pytest.fixture
def run(tmp_path):
    rng = random.Random(0)
    pages = {
        "small.org": invented_pages("www.small.org", {"": (10, 0.7)}, rng),
        "large.org": invented_pages("en.large.org", {"maths/": (60, 0.8), "shop/": (90, 0.2)}, rng),
    }
    write_iteration(tmp_path, 1, pages)
    return tmp_path


def test_domains_come_most_gain_first_with_their_prefixes_and_samples(run):
    candidates = load_candidates(run)
    assert candidates.iteration == 1 and list(candidates.domains) == ["large.org", "small.org"]
    large = candidates.domains["large.org"]
    assert large.pages == 150 and large.gain == 150 - large.collected > 80
    rows = candidates.prefixes["large.org"]
    assert [(row["prefix"], row["pages"]) for row in rows] == [
        ("en.large.org/", 150),
        ("en.large.org/shop/", 90),
        ("en.large.org/maths/", 60),
    ]
    under = candidates.samples_under("large.org", "en.large.org/maths/")
    assert len(under) == 60 and all("/maths/" in row["url"] for row in under)
    assert len(candidates.samples["small.org"]) == 10 and candidates.prefixes["other.org"] == []


def test_rows_of_a_domain_need_not_stand_together(run):
    path = run / "iteration-01" / "samples.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    path.write_bytes(gzip.compress(b"".join(lines)))
    samples = load_candidates(run).samples
    for domain in ("small.org", "large.org"):
        assert samples[domain] == [row for row in map(json.loads, lines) if row["domain"] == domain]


def test_a_prefix_belongs_to_the_domain_of_its_host(run):
    domain_of = load_candidates(run).domain_of
    assert (
        domain_of("large.org/x") == domain_of("a.b.large.org/") == domain_of("large.org:80/x") == "large.org"
    )
    assert domain_of("verylarge.org/") is domain_of("org/") is domain_of("/") is None


def test_the_newest_whole_iteration_is_read(run):
    folder = write_iteration(run, 2, {"other.org": [page("https://other.org/1", 0.5, False, "x")]})
    (run / "iteration-03").mkdir()
    assert newest_iteration(run) == 2 and list(load_candidates(run).domains) == ["other.org"]
    (folder / "samples.jsonl.gz").unlink()
    assert newest_iteration(run) == 1


def test_a_folder_without_an_iteration_is_one_line(tmp_path):
    with pytest.raises(UserError, match="none: no such folder"):
        load_candidates(tmp_path / "none")
    with pytest.raises(UserError, match="is no mining run: give the folder"):
        load_candidates(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "iteration-01").mkdir()
    with pytest.raises(UserError, match="no finished iteration"):
        load_candidates(tmp_path)


def test_damaged_files_name_their_line(run):
    folder = run / "iteration-01"
    for name in ("samples.jsonl.gz", "prefixes.jsonl.gz"):
        good = (folder / name).read_bytes()
        lines = gzip.decompress(good).splitlines(keepends=True)
        bad_row = json.dumps({**json.loads(lines[1]), "domain": 3}).encode() + b"\n"
        for content, where in (
            (gzip.compress(lines[0] + b"{\n"), ":2?: "),
            (gzip.compress(lines[0] + bad_row), ":2: domain"),
            (good[:-20], ":"),
            (b"no gzip", ":0: "),
        ):
            (folder / name).write_bytes(content)
            with pytest.raises(UserError, match=name + where) as caught:
                load_candidates(run)
            assert "\n" not in str(caught.value)
        (folder / name).write_bytes(good)
    (folder / "domains.json").write_text('[{"domain": "a.org", "pages": true, "collected": 0, "words": 0}]')
    with pytest.raises(UserError, match="domains.json, domain 1: pages is no int"):
        load_candidates(run)
