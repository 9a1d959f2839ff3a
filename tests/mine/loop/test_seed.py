"""Examples and held-out pages: every shape of file, the same sample of too many texts, mistakes with their place."""

import gzip
import json
from functools import partial
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.errors import UserError
from dsm_jax.mine.annotate.annotations import read_annotations
from dsm_jax.mine.loop.seed import NO_URL, NONE_HELD_OUT, Examples, HeldOut, read_examples, read_held_out
from dsm_jax.mine.tokens import fasttext_tokens
from dsm_jax.mine.web.urls import canonical_url, key_of

# As OpenWebMath's rows are; its metadata is a string of JSON.
ROWS = [
    {
        "url": f"https://www.a{i}.org/x/",
        "text": f"Theorem {i}: every ideal number{'s' * i} is prime.",
        "date": "2023",
        "metadata": "{}",
    }
    for i in range(30)
]


def lines(rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


WRITERS = {
    "seed.jsonl": lambda path, rows: path.write_bytes(lines(rows)),
    "seed.jsonl.gz": lambda path, rows: path.write_bytes(gzip.compress(lines(rows))),
    "seed.jsonl.zst": lambda path, rows: path.write_bytes(zstandard.compress(lines(rows))),
    "seed.json": lambda path, rows: path.write_text(json.dumps(rows)),
    "seed.parquet": lambda path, rows: pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7),
}


def write(folder, rows, name="seed.jsonl"):
    WRITERS[name](folder / name, rows)
    return folder / name


def same(a: Examples, b: Examples) -> bool:
    return a.texts == b.texts and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("text_keys", "text_urls", "url_keys")
    )


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_the_same_examples(tmp_path, name):
    examples = read_examples("--seed", [write(tmp_path, ROWS, name)], 100)
    assert set(examples.texts) == {fasttext_tokens(row["text"]) for row in ROWS}
    assert (
        examples.text_keys.tolist()
        == sorted(map(key_of, examples.texts))
        == list(map(key_of, examples.texts))
    )
    assert examples.url_keys.tolist() == sorted(key_of(f"a{i}.org/x") for i in range(30))
    assert examples.text_keys.dtype == examples.url_keys.dtype == np.uint64


def test_rows_may_hold_only_texts_only_urls_or_some_of_each(tmp_path):
    rows = [
        {"text": "a ring"},
        {"url": "http://a.org/#b"},
        {"text": None, "url": "https://a.org"},
        {"text": "", "url": "b.org"},
    ]
    examples = read_examples("--seed", [write(tmp_path, rows)], 9)
    assert examples.texts == ("a ring",) and set(examples.url_keys.tolist()) == {
        key_of("a.org"),
        key_of("b.org"),
    }
    assert not len(read_examples("--seed", [write(tmp_path, rows[:1])], 9).url_keys)
    assert not read_examples("--seed", [write(tmp_path, rows[1:])], 9).texts


def test_a_row_without_words_is_no_mistake(tmp_path):
    rows = [{"text": ""}, {"text": "12 + 34"}, {"text": "a ring"}]
    assert read_examples("--seed", [write(tmp_path, rows)], 9).texts == ("a ring",)


def test_rows_may_hold_raw_line_separators_and_the_file_a_byte_order_mark(tmp_path):
    path = tmp_path / "seed.jsonl"
    text = "prime\u2028ideal\u0085ring"
    path.write_bytes(("\ufeff" + json.dumps({"text": text}, ensure_ascii=False) + "\r\n\n").encode())
    assert read_examples("--seed", [path], 9).texts == ("prime ideal ring",)
    path.write_text(json.dumps({"prefix": f"a.org/{text}", "accept": True}, ensure_ascii=False) + "\n")
    assert len(read_annotations([path]).prefixes) == 1


def test_of_too_many_texts_a_sample_that_no_order_and_no_split_of_the_files_changes(tmp_path):
    examples = read_examples("--seed", [write(tmp_path, ROWS)], 10)
    assert len(examples.texts) == 10 and len(examples.url_keys) == 30
    shuffled = Random(0).sample(ROWS, 30)
    files = [write(tmp_path, shuffled[:11], "seed.json"), write(tmp_path, shuffled[11:], "seed.parquet")]
    assert same(read_examples("--seed", files, 10), examples)
    assert set(read_examples("--seed", files, 4).texts) < set(examples.texts)


def test_a_text_that_comes_often_takes_one_place_of_the_sample(tmp_path):
    examples = read_examples("--seed", [write(tmp_path, ROWS * 5)], 20)
    assert len(examples.texts) == len(set(examples.texts)) == 20
    assert same(examples, read_examples("--seed", [write(tmp_path, ROWS)], 20))
    alike = [{"text": "A prime ideal."}, {"text": "a PRIME ideal 12"}]  # one text to the classifier
    assert read_examples("--seed", [write(tmp_path, alike)], 20).texts == ("a prime ideal",)


def test_a_text_that_came_with_several_urls_or_none_keeps_one_whatever_the_order(tmp_path):
    texts = {"A prime ideal.": ["https://a.org", "https://b.org"], "a PRIME ideal 12": ["https://c.org"]}
    rows = [{"text": text, "url": url} for text, urls in texts.items() for url in urls]
    once = read_examples("--seed", [write(tmp_path, rows)], 9)
    assert same(read_examples("--seed", [write(tmp_path, rows[::-1])], 9), once)
    assert once.text_urls.tolist() == [once.url_keys[0]] and len(once.url_keys) == 3
    rows += [{"text": "a prime ideal"}]  # which is of no page
    for some in (rows, rows[::-1]):
        assert read_examples("--seed", [write(tmp_path, some)], 9).text_urls.tolist() == [NO_URL]


def test_a_row_of_a_held_out_url_gives_neither_text_nor_url_and_takes_no_place_of_the_sample(tmp_path):
    held = read_held_out(write(tmp_path, [{"url": f"http://a{i}.org/x#y"} for i in range(20)]))
    file = write(tmp_path, ROWS)
    examples = read_examples("--seed", [file], 10, held)
    assert set(examples.texts) == {fasttext_tokens(row["text"]) for row in ROWS[20:]}
    assert set(examples.url_keys.tolist()) == {key_of(f"a{i}.org/x") for i in range(20, 30)}
    assert set(examples.text_urls.tolist()) == set(examples.url_keys.tolist())
    everything = read_held_out(file)
    with pytest.raises(UserError, match="--negatives .*no usable text: .*not held out"):
        read_examples("--negatives", [file], 10, everything)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no usable text"),
        ('{"text": "12 34"}\n', "no usable text"),
        ('{"page": 1}\n', r"seed\.jsonl:1: needs a string under text or url"),
        ('{"text": 5}\n', r"seed\.jsonl:1: needs a string"),
        ('{"text": "ring"}\n\n[1]\n', r"seed\.jsonl:3: a row must be an object"),
        ('{"text": "ring"}\n"text"\n', r"seed\.jsonl:2: a row must be an object"),
        ('{"text": "ring"}\nnot json\n', r"seed\.jsonl:2: not a row of JSON"),
        ('{"text": "ring"}\n{"text": "' + "\xff" + '"}\n', r"seed\.jsonl:2"),
        ("[" * 100_000, r"seed\.jsonl:1"),
    ],
)
def test_a_bad_row_is_one_line_with_its_place(tmp_path, content, message):
    (tmp_path / "seed.jsonl").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=message) as caught:
        read_examples("--negatives", [tmp_path / "seed.jsonl"], 9)
    assert str(caught.value).startswith("--negatives ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["seed.jsonl.gz", "seed.jsonl.zst", "seed.parquet"])
def test_a_damaged_file_is_one_line(tmp_path, name):
    path = write(tmp_path, ROWS, name)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=rf"--seed .*{name}.*damaged") as caught:
        read_examples("--seed", [path], 9)
    assert "\n" not in str(caught.value)


def test_other_files_are_one_line(tmp_path):
    (tmp_path / "seed.txt").write_text("a ring")
    with pytest.raises(UserError, match=r"seed\.txt: must be JSON lines .* or parquet"):
        read_examples("--seed", [tmp_path / "seed.txt"], 9)
    with pytest.raises(UserError, match=r"--seed .*none\.jsonl: no such file"):
        read_examples("--seed", [write(tmp_path, ROWS), tmp_path / "none.jsonl"], 9)
    with pytest.raises(UserError, match=r"--seed .*seed\.parquet, row 1: needs a string under text or url"):
        read_examples("--seed", [write(tmp_path, [{"content": "a ring"}], "seed.parquet")], 9)


@pytest.mark.parametrize("name", ["is_file", "open"])
@pytest.mark.parametrize(
    "read", [partial(read_examples, "--seed", most=9), lambda files: read_held_out(*files)]
)
def test_a_file_without_permission_is_one_line(tmp_path, monkeypatch, name, read):
    path = write(tmp_path, [{"url": "https://a.org"}])

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(f"pathlib.Path.{name}", denied)
    with pytest.raises(UserError, match=r"seed\.jsonl: cannot be read .Permission denied") as caught:
        read([path])
    assert "\n" not in str(caught.value)


KEYS = st.lists(st.integers(0, 20), max_size=15)


@given(KEYS, KEYS, st.sets(st.integers(1, 20)), st.sets(st.integers(1, 20)))
def test_matching_is_by_url_or_by_text(url_keys, tokens_keys, urls, texts):
    tokens_keys = (tokens_keys + [0] * 15)[: len(url_keys)]
    own, urls_of = sorted(texts), sorted(urls)
    came_with = {text: urls_of[text % len(urls)] if urls and text % 2 else NO_URL for text in own}
    arrays = (np.array(keys, np.uint64) for keys in (own, list(came_with.values()), urls_of))
    examples = Examples(tuple(map(str, own)), *arrays)
    pages = (np.array(url_keys, np.uint64), np.array(tokens_keys, np.uint64))
    assert examples.match_urls(pages[0]).tolist() == [key in urls for key in url_keys]
    assert examples.match_texts(pages[1]).tolist() == [key in texts for key in tokens_keys]
    found = (pages[0][examples.match_urls(pages[0])], pages[1][examples.match_texts(pages[1])])
    left = examples.without(examples.texts_of(*found))
    stay = [text for text in own if text not in tokens_keys and came_with[text] not in {*url_keys} - {0}]
    assert list(map(int, left.texts)) == left.text_keys.tolist() == stay
    assert left.text_urls.tolist() == [came_with[text] for text in stay]
    assert left.url_keys.tolist() == urls_of
    held_out = HeldOut(examples.url_keys, (examples.url_keys % np.uint64(3)).astype(np.int8) - 1)
    assert held_out.match(pages[0]).tolist() == [url in urls for url in url_keys]
    labels = held_out.labels_of(pages[0])
    assert labels.dtype == np.int8 and labels.tolist() == [
        url % 3 - 1 if url in urls else -1 for url in url_keys
    ]


def test_labels_of_held_out_pages(tmp_path):
    labels = ["math", "other", "borderline", None, True, False, 1, 0, 2, 1.5, {"a": 1}, ["math"]]
    rows = [{"url": f"http://www.a.org/{i}", "label": label} for i, label in enumerate(labels)]
    rows += [{"url": "https://a.org/none"}]
    held_out = read_held_out(write(tmp_path, rows))
    keys = np.array([key_of(canonical_url(row["url"])) for row in rows], np.uint64)
    assert held_out.labels_of(keys).tolist() == [1, 0, -1, -1, 1, 0, 1, 0, -1, -1, -1, -1, -1]
    assert held_out.match(keys).all() and not held_out.match(keys + np.uint64(1)).any()
    assert not NONE_HELD_OUT.match(keys).any() and set(NONE_HELD_OUT.labels_of(keys).tolist()) == {-1}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no row"),
        ([{"label": "math"}], r"seed\.jsonl:1: needs a string under url"),
        ([{"url": 3}], ":1: needs"),
    ],
)
def test_held_out_pages_need_urls(tmp_path, rows, message):
    with pytest.raises(UserError, match=message) as caught:
        read_held_out(write(tmp_path, rows))
    assert str(caught.value).startswith("--held-out ") and "\n" not in str(caught.value)


def test_rows_of_both_labels_are_said(tmp_path, capsys):
    """Labels count for held-out pages only; a labelled file given whole would be a seed of both kinds."""
    rows = [
        {"text": f"one {word}", "label": label}
        for word, label in (("a b", "math"), ("c d", "other"), ("e", "other"))
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(read_examples("--seed", [file], 9).texts) == 3
    assert "--seed: 1 rows have the label math and 2 other" in capsys.readouterr().err
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[1:]))
    read_examples("--seed", [file], 9)
    assert not capsys.readouterr().err
