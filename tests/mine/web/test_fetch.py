import gzip

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from dsm_jax.errors import UserError
from dsm_jax.mine.web.download import Missing, Patience
from dsm_jax.mine.web.fetch import COMMON_CRAWL, expand_inputs, fetch, local_name

QUICK = Patience(tries=3, first_s=0.001, most_s=0.01)


@pytest.fixture
def folder(tmp_path):
    for name in ("b.warc.gz", "a.warc.gz", "deep/c.warc.gz", "other.txt", "odd[1].warc"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def names(sources, folder):
    return [source.removeprefix(f"{folder}/") for source in sources]


def test_globs_are_sorted_and_every_file_comes_once(folder):
    patterns = [f"{folder}/b.*", f"{folder}/*.warc.gz", f"{folder}/a.warc.gz"]
    assert names(expand_inputs(patterns), folder) == ["b.warc.gz", "a.warc.gz"]
    found = expand_inputs([f"{folder}/**/*.warc*"])
    assert names(found, folder) == ["a.warc.gz", "b.warc.gz", "deep/c.warc.gz", "odd[1].warc"]
    assert expand_inputs([f"{folder}/odd[1].warc"]) == [f"{folder}/odd[1].warc"]


def test_a_file_of_several_names_comes_once_by_the_first(folder, monkeypatch):
    (folder / "link.warc.gz").symlink_to("a.warc.gz")
    monkeypatch.chdir(folder)
    given = [
        "deep//c.warc.gz",
        "./a.warc.gz",
        "a.warc.gz",
        "deep/../a.warc.gz",
        f"{folder}/a.warc.gz",
        "link.*",
        "./deep/c.*",
    ]
    assert expand_inputs(given) == ["deep//c.warc.gz", "./a.warc.gz"]


def test_urls_are_taken_as_they_are():
    urls = [
        "https://a.org/x.warc.gz?part=*",
        "s3://commoncrawl/b.warc.gz",
        "gs://c/d.warc.gz",
        "memory://e.warc",
    ]
    assert expand_inputs([*urls, urls[0]]) == urls


@pytest.mark.parametrize("packed", [False, True])
def test_lists_name_files_below_a_base(tmp_path, packed):
    path = tmp_path / ("wet.paths.gz" if packed else "wet.paths")
    content = b"crawl-data/1.warc.wet.gz\n\n  /crawl-data/2.warc.wet.gz\r\nhttps://b.org/3.warc.gz\n"
    path.write_bytes(gzip.compress(content, mtime=0) if packed else content)
    last = "https://b.org/3.warc.gz"
    assert expand_inputs([str(path)]) == [
        COMMON_CRAWL + "crawl-data/1.warc.wet.gz",
        COMMON_CRAWL + "crawl-data/2.warc.wet.gz",
        last,
    ]
    assert (
        expand_inputs([str(path)], base="s3://commoncrawl")[1] == "s3://commoncrawl/crawl-data/2.warc.wet.gz"
    )
    url = f"memory://lists/{path.name}"
    with fsspec.open(url, "wb") as file:
        file.write(path.read_bytes())
    assert expand_inputs([url], base="/disk")[::2] == ["/disk/crawl-data/1.warc.wet.gz", last]


@pytest.mark.parametrize(
    ("pattern", "content", "message"),
    [
        ("none.warc.gz", None, "no such file"),
        ("*.nothing", None, "no such file"),
        ("", None, "is a folder"),
        ("a.paths.gz", b"not gzip", "cannot be read"),
        ("a.paths.gz", gzip.compress(b"crawl/a.warc.gz\n", mtime=0)[:-9], "cannot be read"),
        ("a.paths", b"\xff\xfe", "cannot be read"),
        ("a.paths", b"\n \n", "names no file"),
    ],
)
def test_inputs_that_are_the_users_mistake(tmp_path, pattern, content, message):
    if content is not None:
        (tmp_path / pattern).write_bytes(content)
    with pytest.raises(UserError, match=rf"^--warc .*{message}") as caught:
        expand_inputs([f"{tmp_path}/{pattern}"])
    assert "\n" not in str(caught.value)


def test_list_of_a_url_that_is_not_there():
    with pytest.raises(
        UserError, match=r"^--warc memory://none.paths: the list cannot be read \(no such file\)"
    ):
        expand_inputs(["memory://none.paths"], patience=QUICK)


def test_local_file_is_returned_as_it_is(tmp_path):
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"x")
    assert fetch(str(path), tmp_path / "unused") == path and not (tmp_path / "unused").exists()
    with pytest.raises(Missing, match="no such file"):
        fetch(str(tmp_path / "none"), tmp_path)


def test_local_names_tell_urls_apart_and_are_files():
    urls = [
        "https://a.org/x/CC-MAIN-1.warc.gz",
        "https://a.org/y/CC-MAIN-1.warc.gz",
        "https://a.org/x/CC-MAIN-1.warc.gz?v=2",
        "https://a.org/..",
        "https://a.org",
        "memory://a/../ü ;.warc",
        "https://a.org/" + "long" * 99 + ".warc.gz",
    ]
    found = [local_name(url) for url in urls]
    assert len(set(found)) == len(urls)
    assert found[0].endswith("-CC-MAIN-1.warc.gz") and found[6].endswith(".warc.gz")
    assert all(
        "/" not in name and " " not in name and len(name) < 200 and name[0].isalnum() for name in found
    )
    assert local_name(urls[0]) == found[0]


def test_fsspec_urls(tmp_path):
    content = bytes(range(256)) * 20_000
    with fsspec.open("memory://crawl/a.warc", "wb") as file:
        file.write(content)
    path = fetch("memory://crawl/a.warc", tmp_path / "new", QUICK)
    assert path.parent == tmp_path / "new" and path.read_bytes() == content
    with fsspec.open("memory://crawl/a.warc", "wb") as file:
        file.write(b"changed")
    assert fetch("memory://crawl/a.warc", tmp_path / "new", QUICK).read_bytes() == content  # there already
    (tmp_path / "b.warc").write_bytes(content)
    assert fetch(f"file://{tmp_path}/b.warc", tmp_path, QUICK).read_bytes() == content
    with pytest.raises(Missing, match=r"^memory://crawl/none: no such file$"):
        fetch("memory://crawl/none", tmp_path, QUICK)
    with pytest.raises(UserError, match="nosuch://x"):
        fetch("nosuch://x", tmp_path, QUICK)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {
        local_name(f"file://{tmp_path}/b.warc"),
        "b.warc",
    }


@pytest.mark.parametrize("changes", [False, True])
def test_fsspec_download_that_is_cut_goes_on(tmp_path, monkeypatch, changes):
    """Whatever the file system raises; and from the start where the file is another one by then."""
    content = bytes(range(256)) * 10_000
    starts = []

    class Fragile:
        def __init__(self, path):
            self.file, self.reads = MemoryFileSystem.store[path], 0

        def seek(self, place):
            starts.append(place)
            self.file.seek(place)

        def read(self, size):
            self.reads += 1
            if self.reads == 2 and len(starts) < 3:
                if changes:
                    MemoryFileSystem.store["/crawl/cut"] = MemoryFile(None, "/crawl/cut", content[1:])
                raise RuntimeError("the connection was lost")
            return self.file.read(size)

        def close(self):
            pass

    MemoryFileSystem.store["/crawl/cut"] = MemoryFile(None, "/crawl/cut", content)
    monkeypatch.setattr(MemoryFileSystem, "open", lambda self, path, mode: Fragile(path))
    assert fetch("memory://crawl/cut", tmp_path, QUICK).read_bytes() == content[changes:]
    assert starts[:2] == [0, 0 if changes else 1 << 20]
