"""WET files scored, WARC files read for what was kept: the pages' text and place are the WARC file's."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import fasttext
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mine import pipeline
from dsm_jax.mine.config import PRESETS
from dsm_jax.mine.corpus import clean, wet
from dsm_jax.mine.corpus.export import read_corpus
from dsm_jax.mine.corpus.wet import pair
from dsm_jax.mine.pipeline import Examples, Sources, mine
from dsm_jax.mine.web.fetch import Missing

CONFIG = replace(PRESETS["smoke"], iterations=1)


def record(kind, number, url, head, body):
    """Of Common Crawl's form: a text refers to the response that it was taken from."""
    header = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{kind}-{number}>\r\n"
    if kind == "conversion":
        header += f"WARC-Refers-To: <urn:uuid:response-{number}>\r\n"
    header += f"WARC-Target-URI: {url}\r\nContent-Type: {head}\r\nContent-Length: {len(body)}\r\n\r\n"
    return gzip.compress(header.encode() + body + b"\r\n\r\n", mtime=0)


@pytest.fixture
def files(tmp_path):
    """Two WARC files of 20 pages with a formula each, their WET files without, and a seed of 5 urls."""
    warcs, wets = [], []
    for name in ("a", "b"):
        responses, texts = [], []
        for i in range(20):
            url, words = f"https://{name}{i % 4}.org/{i}", "prime ring" if i % 2 else "coach hotel"
            text = f"{words} {name} {i} " + f"{words} number{i} " * 8
            page = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>{text} $x^{{{i}}}$</p>".encode()
            responses.append(record("response", f"{name}{i}", url, "application/http", page))
            texts.append(record("conversion", f"{name}{i}", url, "text/plain", text.encode()))
        warcs.append(tmp_path / f"{name}.warc.gz")
        wets.append(tmp_path / f"{name}.warc.wet.gz")
        warcs[-1].write_bytes(b"".join(responses))
        wets[-1].write_bytes(b"".join(texts))
    seed = tmp_path / "seed.jsonl"
    seed.write_text("".join(json.dumps({"url": f"https://a{i % 4}.org/{i}"}) + "\n" for i in range(1, 11, 2)))
    return list(map(str, warcs)), list(map(str, wets)), seed


def run(out, warcs, wets, seed):
    return mine(CONFIG, out, Sources(tuple(warcs), tuple(wets)), Examples((seed,)))


def test_kept_pages_have_the_text_and_the_place_of_their_warc_record(files, tmp_path):
    warcs, wets, seed = files
    result = run(tmp_path / "out", reversed(warcs), wets, seed)
    records = list(read_corpus(result.corpus))
    assert records and result.funnel["contamination"]["wet_text_kept"] == 0
    for one in records:
        number = one["url"].rpartition("/")[2]
        assert one["text"].endswith(f"$x^{{{number}}}$")
        warc = tmp_path / one["warc"]
        assert one["warc"] == f"{one['url'][8]}.warc.gz"
        with gzip.open(warc) as content:  # a member a record: what starts there is this one
            content.fileobj.seek(one["offset"])
            assert f"WARC-Target-URI: {one['url']}".encode() in content.read(300)


def test_the_tasks_find_files_given_by_relative_paths_in_another_working_folder(files, tmp_path, monkeypatch):
    """As the tasks of Beam's workers have one of their own."""
    warcs, wets, seed = files
    model = tmp_path / "languages.bin"
    (tmp_path / "train.txt").write_text("__label__en prime ring\n__label__de hotel coach\n" * 20)
    trained = fasttext.train_supervised(str(tmp_path / "train.txt"), dim=4, bucket=100, thread=1, verbose=0)
    trained.save_model(str(model))
    examples, real = Examples((seed,)), pipeline.make_shards

    def elsewhere(*args):
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "elsewhere")
        return real(*args)

    monkeypatch.setattr(pipeline, "make_shards", elsewhere)
    mine(CONFIG, tmp_path / "absolute", Sources(tuple(warcs), tuple(wets), model), examples)
    monkeypatch.chdir(tmp_path)
    names = [tuple(Path(file).name for file in some) for some in (warcs, wets)]
    mine(CONFIG, Path("relative"), Sources(*names, Path(model.name)), examples)
    made = [folder_contents(tmp_path / name) for name in ("absolute", "relative")]
    assert made[0] == made[1]


def folder_contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_wet_file_without_its_warc_file_keeps_its_text_and_is_said(files, tmp_path, capsys):
    warcs, wets, seed = files
    result = run(tmp_path / "out", warcs[:1], wets, seed)
    assert "1 of 2 --wet files have no --warc file of their name" in capsys.readouterr().err
    own = [one for one in read_corpus(result.corpus) if one["url"][8] == "b"]
    assert result.funnel["contamination"]["wet_text_kept"] == len(own)
    assert not any("$" in one["text"] for one in own)


def test_a_warc_file_that_is_missing_leaves_the_wet_text(files, tmp_path, capsys, monkeypatch):
    def gone(source, folder):
        raise Missing(source, "503")

    monkeypatch.setattr(wet, "fetch", gone)
    warcs, wets, seed = files
    result = run(tmp_path / "out", warcs, wets, seed)
    assert result.funnel["files_missing"] == dict.fromkeys(warcs, "503")
    assert "a.warc.gz is missing (503); its pages keep their WET text" in capsys.readouterr().err
    assert result.funnel["contamination"]["wet_text_kept"] == result.funnel["pages_kept"] > 0


@pytest.mark.parametrize("is_late", [False, True])
def test_another_attempt_that_is_refused_the_warc_file_leaves_its_text(files, tmp_path, monkeypatch, is_late):
    """Beam may have two machines try a task; the other one comes late, or waits for its server meanwhile."""
    warcs, wets, seed = files
    real = wet.fetch

    def clean_twice(cleaner, shards, *_):
        for shard in shards:

            def refused(source, folder, shard=shard):
                monkeypatch.setattr(wet, "fetch", real)
                cleaner(shard)
                raise Missing(source, "403")

            monkeypatch.setattr(wet, "fetch", real)
            if is_late:
                cleaner(shard)
            monkeypatch.setattr(wet, "fetch", refused)
            cleaner(shard)

    monkeypatch.setattr(clean, "for_each", clean_twice)
    result = run(tmp_path / "out", warcs, wets, seed)
    assert result.funnel["contamination"]["wet_text_kept"] == 0 and result.funnel["files_missing"] == {}
    assert all("$" in one["text"] for one in read_corpus(result.corpus))


def test_a_warc_file_of_which_nothing_is_kept_is_not_asked_for(files, tmp_path, monkeypatch):
    monkeypatch.setattr(wet, "fetch", None)
    assert wet.warc_texts(files[0][0], tmp_path, []) == {}


def test_pairs_go_by_name_and_a_warc_file_of_no_wet_file_is_refused():
    assert pair(["x/a.warc.wet.gz", "b.warc.wet.gz"], ["s3://y/b.warc.gz", "a.warc.gz"]) == [
        "a.warc.gz",
        "s3://y/b.warc.gz",
    ]
    with pytest.raises(UserError, match="--warc c.warc.gz: no --wet file of that name"):
        pair(["a.warc.wet.gz"], ["a.warc.gz", "c.warc.gz"])


@pytest.mark.parametrize(
    ("wets", "warcs", "option"),
    [
        (
            ["a/0.warc.wet.gz", "b/0.warc.wet.gz"],
            ["b/0.warc.gz", "a/0.warc.gz"],
            "--wet b/0.warc.wet.gz and a/0",
        ),
        (["a/0.warc.wet.gz", "b/0.warc.wet.gz"], ["b/0.warc.gz"], "--wet b/0.warc.wet.gz and a/0"),
        (["a/0.warc.wet.gz"], ["b/0.warc.gz", "a/0.warc.gz"], "--warc a/0.warc.gz and b/0"),
    ],
)
def test_files_of_one_name_are_not_paired_by_chance(wets, warcs, option):
    with pytest.raises(UserError, match=f"^{option}.*: of one name") as caught:
        pair(wets, warcs)
    assert "\n" not in str(caught.value)


def test_wet_files_of_one_name_without_a_warc_file_are_no_mistake():
    assert pair(["a/0.warc.wet.gz", "b/0.warc.wet.gz", "1.warc.wet.gz"], ["1.warc.gz"]) == [
        None,
        None,
        "1.warc.gz",
    ]


def test_a_mistake_names_the_option_that_the_file_came_from(files, tmp_path):
    warcs, _, seed = files
    (tmp_path / "bad").write_bytes(b"<html>503</html>")
    for name in ("none", "bad"):
        given = str(tmp_path / name)
        with pytest.raises(UserError, match=f"--wet {given}: (no such file|corrupt)"):
            run(tmp_path / "out", warcs, [given], seed)
        with pytest.raises(UserError, match=f"--warc {given}: (no such file|corrupt)"):
            run(tmp_path / "out", [given], [], seed)
