import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.errors import UserError
from dsm_jax.mine.annotate.annotations import (
    Annotations,
    Decision,
    append_decision,
    canonical_prefix,
    is_torn,
    merge,
    now,
    read_annotations,
    read_decisions,
    read_standing,
    write_standing,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def write_rows(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def two_rows(path):
    return write_rows(path, {"prefix": "a.org/", "accept": True}, {"prefix": "b.org/", "accept": False})


# What a prefix covers


def test_the_longest_annotated_prefix_wins(tmp_path):
    rows = [{"prefix": "https://www.a.org/", "accept": True}, {"prefix": "a.org/history", "accept": False}]
    annotations = read_annotations([write_rows(tmp_path / "annotations.jsonl", *rows)])
    assert annotations.verdict("https://a.org/proof/1") is True
    assert annotations.verdict("http://www.a.org/history/1") is False
    assert annotations.verdict("https://a.org/historyofmaths") is False
    assert annotations.verdict("https://b.org/") is None


def test_annotated_prefixes_are_hosts_in_any_case_and_folders_with_their_own_page(tmp_path):
    rows = [{"prefix": "HTTPS://WWW.A.org", "accept": True}, {"prefix": "a.org/history/", "accept": False}]
    annotations = read_annotations([write_rows(tmp_path / "annotations.jsonl", *rows)])
    for url in ("https://a.org", "https://A.org/", "https://a.org/?p=1", "https://a.org/historyofmaths"):
        assert annotations.verdict(url) is True
    for url in ("https://a.org/history", "https://a.org/history/?p=1", "https://a.org/history/x"):
        assert annotations.verdict(url) is False
    assert annotations.verdict("https://a.organic.com/") is None
    assert annotations.verdict("no url at all") is None


PIECE = st.sampled_from(["a", "ab", "node1", "node12", "b"])
PATH = st.builds("/".join, st.lists(PIECE, max_size=3))
QUERY = st.sampled_from(["", "", "?p=1", "?p=12"])
URL = st.builds(
    "https://{}/{}{}{}".format,
    st.sampled_from(["a.org", "a.org.uk"]),
    PATH,
    st.sampled_from(["", "/"]),
    QUERY,
)


def covers(prefix: str, url: str) -> bool:
    """By the definition, with none of the code: hosts and folders by whole segments, others by letters."""
    prefix, url = (one.removeprefix("https://") for one in (prefix, url))
    bare, _, query = url.partition("?")
    bare = bare.rstrip("/")
    if "?" in prefix:
        path, _, asked = prefix.partition("?")
        return bare == path.rstrip("/") and query.startswith(asked)
    if prefix.endswith("/") or "/" not in prefix:
        return bare == prefix.rstrip("/") or bare.startswith(prefix.rstrip("/") + "/")
    return bare.startswith(prefix)


@given(st.dictionaries(URL, st.booleans(), max_size=8), URL)
def test_a_verdict_is_that_of_the_longest_prefix_that_covers_the_url(prefixes, url):
    annotations = Annotations({canonical_prefix(prefix): accept for prefix, accept in prefixes.items()})
    covering = [canonical_prefix(prefix) for prefix in prefixes if covers(prefix, url)]
    longest = max(covering, key=len, default=None)
    assert annotations.verdict(url) is (annotations.prefixes[longest] if longest else None)


def test_a_verdict_takes_as_long_among_many_prefixes():
    rng = random.Random(0)
    prefixes = {f"site{i % 5000}.org/{'x' * (i % 37)}{i}": bool(rng.getrandbits(1)) for i in range(50_000)}
    annotations = Annotations(prefixes)
    urls = [f"https://{prefix}/page" for prefix in prefixes]
    annotations.verdict(urls[0])
    start = time.process_time()
    got = [annotations.verdict(url) for url in urls]
    assert time.process_time() - start < 5  # comparing each with every prefix takes minutes
    assert got == list(prefixes.values())


# Several annotators


def by(name, prefix, accept, at="2024-05-31T12:00:00Z"):
    return Decision(prefix, accept, name, at)


def test_the_majority_decides_and_a_tie_is_a_conflict():
    ann, bob, cal = (
        [by(name, "a.org/", accept), by(name, "b.org/", True)]
        for name, accept in (("ann", True), ("bob", False), ("cal", False))
    )
    annotations = merge([ann, bob])
    assert annotations.prefixes == {"a.org/": None, "b.org/": True} and annotations.conflicts == ["a.org/"]
    assert [(vote.by, vote.accept) for vote in annotations.votes["a.org/"]] == [("ann", True), ("bob", False)]
    assert merge([ann, bob, cal]).prefixes["a.org/"] is False


def test_a_conflict_is_not_decided_by_a_shorter_prefix():
    rows = [by("ann", "a.org/", True), by("ann", "a.org/b/", True), by("bob", "a.org/b/", False)]
    annotations = merge([rows])
    assert annotations.verdict("https://a.org/c") is True
    assert annotations.verdict("https://a.org/b/c") is None


def test_the_last_decision_of_an_annotator_counts_and_may_be_none():
    early, late = "2024-05-31T12:00:00Z", "2024-05-31T13:00:00Z"
    one, other = [by("ann", "a.org/", True, early)], [by("ann", "a.org/", None, late)]
    assert merge([one]).prefixes == {"a.org/": True}
    assert merge([one, other]).prefixes == merge([other, one]).prefixes == {}
    clock_went_back = [by("ann", "a.org/", True, late), by("ann", "a.org/", False, early)]
    assert merge([clock_went_back]).prefixes == {"a.org/": False}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ann", "bob", "cal"]),
            st.sampled_from("ab"),
            st.sampled_from([True, False, None]),
        ),
        max_size=20,
    ),
    st.randoms(use_true_random=False),
)
def test_a_file_for_each_annotator_or_one_for_all_in_any_order_is_the_same(words, rng):
    rows = [
        by(name, letter, accept, f"2024-05-31T12:00:{i:02d}Z")
        for i, (name, letter, accept) in enumerate(words)
    ]
    files = [[row for row in rows if row.by == name] for name in ("ann", "bob", "cal")]
    rng.shuffle(files)
    assert merge(files) == merge([rows])


# Files


def test_what_stands_is_written_with_who_and_when_and_read_back(tmp_path):
    rows = [
        by("bob", "a.org/", True),
        by("ann", "a.org/", False),
        by("ann", "é.org/x", True, ""),
        by("cal", "b.org/", None),
    ]
    for order in (rows, rows[::-1]):
        write_standing(tmp_path / "standing.json", merge([[row] for row in order]))
        assert read_standing(tmp_path / "standing.json") == merge([rows])
        written = json.loads((tmp_path / "standing.json").read_text())
        assert [vote["by"] for vote in written["a.org/"]["votes"]] == ["ann", "bob"]
        assert written["a.org/"]["accept"] is None and set(written) == {"a.org/", "é.org/x"}


def test_a_row_without_annotator_is_the_files_own(tmp_path):
    ann = write_rows(tmp_path / "ann.jsonl", {"prefix": "A.org", "accept": True})
    bob = tmp_path / "bob.csv"
    bob.write_text('\ufeffprefix,accept\r\n"a.org",FALSE\r\nhttps://www.b.org/x,true\r\nc.org,\r\n')
    annotations = read_annotations([ann, bob])
    assert annotations.prefixes == {"a.org/": None, "b.org/x": True}
    assert [vote.by for vote in annotations.votes["a.org/"]] == ["ann.jsonl", "bob.csv"]


def test_a_csv_may_say_who_and_when(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text(
        "prefix, accept, by, at\na.org/, true, ann, 2024-05-31T14:00:00+02:00\na.org/,null,bob,\n"
    )
    assert read_decisions(path) == [
        Decision("a.org/", True, "ann", "2024-05-31T12:00:00Z"),
        Decision("a.org/", None, "bob"),
    ]


@pytest.mark.parametrize(
    "row",
    [
        "{",
        "null",
        "[]",
        '{"prefix": "a.org"}',
        '{"prefix": "a.org", "accept": "yes"}',
        '{"prefix": "a.org", "accept": 1}',
        '{"prefix": " ", "accept": true}',
        '{"prefix": "a.org", "accept": true, "by": 3}',
        '{"prefix": "a.org", "accept": true, "at": "yesterday"}',
        '{"prefix": "\udcff", "accept": true}',
        "[" * 100_000,
    ],
)
def test_a_bad_row_names_its_line(tmp_path, row):
    path = two_rows(tmp_path / "annotations.jsonl")
    good = path.read_bytes()
    path.write_bytes(good + b"\n" + row.encode(errors="surrogateescape") + b"\n" + good)
    with pytest.raises(UserError, match=r"annotations\.jsonl:4: ") as caught:
        read_annotations([path])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a.org/,true\n", 1),
        (b"", 1),
        (b"prefix,accept\na.org,true\nb.org,yes\n", 3),
        (b"prefix,accept\n,true\n", 2),
        (b"prefix,accept,at\na.org,true,noon\n", 2),
        (b"prefix,accept\na.org,true\n\xff.org,true\n", 3),
    ],
)
def test_a_bad_csv_names_its_line(tmp_path, content, line):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.csv:{line}: ") as caught:
        read_annotations([path])
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_annotations([tmp_path / "none.jsonl"])
    with pytest.raises(UserError, match="cannot be read"):
        read_annotations([tmp_path])


def test_a_last_row_without_line_break_counts_when_it_is_whole(tmp_path):
    path = tmp_path / "annotations.jsonl"
    path.write_text('{"prefix": "a.org/", "accept": true}')
    assert read_annotations([path]).prefixes == {"a.org/": True}
    path.write_text('{"prefix": "a.org/", "accept": yes}')  # not torn: a mistake
    with pytest.raises(UserError, match="annotations.jsonl:1"):
        read_annotations([path])


# Writing


def test_a_decision_is_appended_with_who_and_when(tmp_path):
    path = tmp_path / "annotations.jsonl"
    decision = Decision("a.org/ä\u2028", True, 'ann "the first"', now())
    append_decision(path, decision)
    append_decision(path, Decision("a.org/ä\u2028", None, "bob", now()))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [set(row) for row in rows] == [{"prefix", "accept", "by", "at"}] * 2
    assert rows[0]["by"] == 'ann "the first"' and rows[1]["accept"] is None
    assert abs(datetime.fromisoformat(rows[0]["at"]) - datetime.now(UTC)).total_seconds() < 60
    assert read_decisions(path)[0] == decision


@given(TEXT.filter(str.strip), TEXT.filter(bool), st.sampled_from([True, False, None]), st.data())
def test_what_a_kill_leaves_of_a_row_is_left_out_and_repaired(tmp_path_factory, prefix, name, accept, data):
    path = tmp_path_factory.mktemp("torn") / "annotations.jsonl"
    two_rows(path)
    whole = path.read_bytes()
    append_decision(path, Decision(prefix, accept, name, now()))
    row = path.read_bytes()[len(whole) :]
    cut = data.draw(st.integers(0, len(row) - 1))
    path.write_bytes(whole + row[:cut])
    is_whole = cut == len(row) - 1
    assert is_torn(row[:cut]) == (0 < cut < len(row) - 1)
    before = read_decisions(path)
    assert len(before) == 2 + is_whole
    append_decision(path, Decision("c.org/", True, "cal", now()))
    assert path.read_bytes().startswith(whole + (row if is_whole else b'{"prefix": "c.org/"'))
    assert read_decisions(path)[:-1] == before


def test_a_row_cut_anywhere_is_torn_even_behind_what_could_end_it(tmp_path):
    path = tmp_path / "annotations.jsonl"
    append_decision(path, Decision('a.org/{"x\\"}/', True, "a}", now()))
    row = path.read_bytes()
    assert row.count(b"}") > 2
    assert all(is_torn(row[:cut]) for cut in range(1, len(row) - 1))


APPENDS = """
import sys
from pathlib import Path
from dsm_jax.mine.annotate.annotations import Decision, append_decision
for i in range(int(sys.argv[3])):
    append_decision(Path(sys.argv[1]), Decision(f"{sys.argv[2]}.org/{i}/" + "x" * 3000, True, sys.argv[2]))
    print(i, flush=True)
"""


def appending(path, name, count):
    return subprocess.Popen(
        [sys.executable, "-c", APPENDS, path, name, str(count)], stdout=subprocess.PIPE, text=True
    )


def test_two_annotators_share_a_file_and_a_kill_loses_nothing_that_was_saved(tmp_path):
    path = tmp_path / "annotations.jsonl"
    one, other = appending(path, "ann", 100_000), appending(path, "bob", 200)
    assert other.wait(120) == 0
    os.kill(one.pid, signal.SIGKILL)
    saved = {
        name: len(process.communicate()[0].splitlines()) for name, process in (("ann", one), ("bob", other))
    }
    append_decision(path, Decision("c.org/", True, "cal"))
    rows = read_decisions(path)
    counts = {
        name: [row.prefix.split("/")[1] for row in rows if row.by == name] for name in ("ann", "bob", "cal")
    }
    assert counts["bob"] == [str(i) for i in range(200)] and len(counts["cal"]) == 1
    assert saved["ann"] <= len(counts["ann"]) <= saved["ann"] + 1
    assert counts["ann"] == [str(i) for i in range(len(counts["ann"]))]


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path):
    path = two_rows(tmp_path / "annotations.jsonl")
    before = path.read_bytes()
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from dsm_jax.mine.annotate.annotations import Decision, append_decision\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 30}, -1))\n"  # a row is cut in the middle
        "append_decision(Path(sys.argv[1]), Decision('c.org/', True, 'cal'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert "File too large" in done.stderr and path.read_bytes() == before


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("a.org", "a.org/"),
        ("http://www.A.org/", "a.org/"),
        ("a.org/b", "a.org/b"),
        ("a.org/b/", "a.org/b/"),
        ("a.org:8080/b//", "a.org:8080/b/"),
        ("a.org?c=d/", "a.org/?c=d/"),
        ("archive.org/http://b.org/", "archive.org/http://b.org/"),
    ],
)
def test_a_prefix_has_one_spelling(given, canonical):
    assert canonical_prefix(given) == canonical == canonical_prefix(canonical)
