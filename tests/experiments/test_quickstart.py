"""The quickstart as users call it: their mistakes are one line and exit 2, before any work is lost."""

import gzip
import json
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The scripts import each other by name, as they do when one is run."""
    monkeypatch.syspath_prepend(str(EXPERIMENTS))


def run(*argv: str) -> None:
    import quickstart

    from dsm_jax.cli import run_script

    run_script(quickstart.main, quickstart.PRESETS, ["--preset", "smoke", *argv])


def complaint(capsys, *argv: str) -> str:
    """The one line on stderr of a call that must end with exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run(*argv)
    assert end.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def write_warc(path: Path, pages: dict[str, str]) -> Path:
    """A gzipped WARC of HTML responses."""
    records = []
    for url, text in pages.items():
        html = f"<html><body><article><p>{text}</p></article></body></html>".encode()
        http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html
        head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nContent-Type: application/http; msgtype=response\r\nWARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-{len(records):012d}>\r\nWARC-Date: 2024-01-01T00:00:00Z\r\nContent-Length: {len(http)}\r\n\r\n"
        records.append(gzip.compress(head.encode() + http + b"\r\n\r\n", mtime=0))
    path.write_bytes(b"".join(records))
    return path


def write_seed(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--no-such-option", "1"), "no-such-option"),
        (("--preset", "huge"), "--preset huge: unknown; the presets are demo, smoke"),
        (("--mesh", "fsdp=3"), "--mesh fsdp=3: does not divide the 8 devices"),
        (("--mesh", "modle=8"), "no axis 'modle'"),
        (("--mesh",), "--small.pretrain.batch-size 4 does not divide over the 8 devices"),
        (("--mesh", "tensor=8", "--small.grpo.num-generations", "1"), "num_generations is 1"),
        (("--seed", "seed.jsonl"), "--seed is for --warc"),
        (("--evaluation.sampled-problems", "99"), "more than --evaluation.problems"),
    ],
)
def test_a_wrong_option_is_one_line(capsys, tmp_path, argv, said):
    assert said in complaint(capsys, "--out", str(tmp_path / "run"), *argv)
    assert not (tmp_path / "run").exists()


def test_wrong_warc_files_are_one_line(capsys, tmp_path):
    seed = write_seed(tmp_path / "seed.jsonl", [{"text": "a theorem on prime numbers and its proof " * 9}])
    (tmp_path / "empty.warc.gz").write_bytes(b"")
    (tmp_path / "broken.warc.gz").write_bytes(b"\x1f\x8b\x08\x00 this is no gzip")
    (tmp_path / "other.warc.gz").write_bytes(gzip.compress(b"hello, not a WARC file\n" * 99))
    options = (
        "--mesh",
        "tensor=8",
        "--out",
        str(tmp_path / "run"),
        "--stage",
        "mine",
        "--seed",
        str(seed),
        "--warc",
    )
    for name in ("missing", "empty", "broken", "other"):
        path = tmp_path / f"{name}.warc.gz"
        assert str(path) in complaint(capsys, *options, str(path))


def test_a_seed_without_text_is_one_line(capsys, tmp_path):
    warc = write_warc(
        tmp_path / "a.warc.gz", {f"https://a.org/{i}": f"page number {i} " * 30 for i in range(20)}
    )
    options = (
        "--mesh",
        "tensor=8",
        "--stage",
        "mine",
        "--out",
        str(tmp_path / "run"),
        "--warc",
        str(warc),
        "--seed",
    )
    for rows in ([], [{"url": "https://elsewhere.org/x"}], [{"text": "  "}]):
        assert "seed" in complaint(capsys, *options, str(write_seed(tmp_path / "seed.jsonl", rows)))
    (tmp_path / "seed.jsonl").write_text('{"text": "fine fine"}\n{"text": \n')
    assert "seed.jsonl:2: not JSON" in complaint(capsys, *options, str(tmp_path / "seed.jsonl"))


def test_another_configuration_in_the_folder_is_refused_and_nothing_is_lost(capsys, tmp_path):
    from dsm_jax.run import read_json

    run(
        "--mesh",
        "tensor=8",
        "--out",
        str(tmp_path),
        "--stage",
        "mine",
        "--mine.docs-packages",
        "click",
        "sympy",
        "mpmath",
    )
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    said = complaint(capsys, "--mesh", "tensor=8", "--out", str(tmp_path), "--rng-seed", "7")
    assert "--rng-seed (there 0, now 7)" in said and str(tmp_path) in said
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert read_json(tmp_path / "config.json")["rng_seed"] == 0
