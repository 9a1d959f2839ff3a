"""Files told apart: small ones by every byte, large ones by samples."""

from dsm_jax.mine import identify


def test_a_large_file_of_another_size_or_beginning_or_end_is_another_one(tmp_path, monkeypatch):
    """Small ones are told apart by every byte."""
    monkeypatch.setattr(identify, "PART_BYTES", 10)
    content = bytes(range(250))
    changed = [bytes([1]) + content[1:], content[:-1] + bytes([1]), content + b"0", content[:-1]]
    inside = [content[:at] + bytes([255]) + content[at + 1 :] for at in range(250)]

    def told(content, whole):
        (tmp_path / "file").write_bytes(content)
        return identify.identify(tmp_path / "file", 5, whole)

    assert told(content, 0) not in {told(other, 0) for other in changed}
    assert sum(told(other, 0) != told(content, 0) for other in inside) == 5 * 10
    assert told(content, 250) not in {told(other, 250) for other in [*changed, *inside]}


def test_a_url_stands_for_itself_and_a_file_of_a_crawl_for_its_ends(tmp_path):
    assert identify.identify_source("https://a.org/x.warc.gz") == "https://a.org/x.warc.gz"
    file = tmp_path / "a.warc"
    made = []
    for content in (
        b"",
        b"1",
        b"2",
        b"1" + bytes(200_000),
        b"2" + bytes(200_000),
        b"1" + bytes(199_999) + b"2",
    ):
        file.write_bytes(content)
        made.append(identify.identify_source(str(file)))
    assert len(set(made)) == len(made) and all(one.startswith("a.warc of ") for one in made)
