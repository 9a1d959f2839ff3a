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
        (("--mesh", "fsdp=3"), "--mesh fsdp=3: does not fit the 8 devices"),
        (("--mesh", "modle=8"), "no axis 'modle'"),
        (("--mesh", "fsdp=8"), "--small.pretrain.batch-size 4 does not divide over the 8 devices"),
        (("--mesh", "tensor=8"), "tensor=8 does not divide the model's n_kv_heads 4"),
        (("--small.grpo.slots", "0"), "slots is 0"),
        (("--small.grpo.temperature", "0"), "temperature is 0"),
        (("--small.grpo.remat", "ful"), "remat"),
        (("--small.grpo.loop.steps", "1"), "warmup_steps do not end before"),
        (("--small.families", "chainz"), "families chainz"),
        (("--small.drill-weight", "-1"), "weight"),
        (("--small.model.max-seq-len", "64"), "max-seq-len 64"),
        (("--rng-seed", "-1"), "--rng-seed -1"),
        (("--mine.rng-seed", "3"), "give --rng-seed"),
        (("--workers", "-1"), "--workers -1"),
        (("--rng-seed", str(2**31)), "--rng-seed 2147483648"),
        (("--evaluation.samples", "0"), "--evaluation.samples"),
        (("--warc", "x.warc.gz"), "--warc needs --seed"),
        (("--small.grpo.num-generations", "1"), "num_generations is 1"),
        (("--seed", "seed.jsonl"), "--seed is for --warc"),
        (("--supervision.problems", "0"), "--supervision.problems is 0"),
        (("--supervision.epochs", "0"), "--supervision.epochs is 0"),
        (("--supervision.weight", "0"), "--supervision.weight is 0"),
        (("--supervision.held-out", "10000"), "--supervision.held-out is 10000"),
        (("--supervision.reward-model.window", "1024"), "--supervision.reward-model.window 1024 is longer"),
        (("--evaluation.sampled-problems", "99"), "must be from 1 to --evaluation.problems"),
    ],
)
def test_a_wrong_option_is_one_line(capsys, tmp_path, argv, said):
    assert said in complaint(capsys, "--out", str(tmp_path / "run"), *argv)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing", None, "no such file"),
        ("empty", b"", "is empty"),
        ("broken", b"\x1f\x8b\x08\x00 this is no gzip", "no record can be read"),
        ("other", gzip.compress(b"hello, not a WARC file\n" * 99), "no record can be read"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)
def test_a_wrong_warc_file_is_one_line(capsys, tmp_path, name, content, said):
    seed = write_seed(tmp_path / "seed.jsonl", [{"text": "a theorem on prime numbers and its proof " * 9}])
    path = tmp_path / f"{name}.warc.gz"
    if content is not None:
        path.write_bytes(content)
    options = ("--out", str(tmp_path / "run"), "--stage", "mine", "--seed", str(seed), "--warc", str(path))
    line = complaint(capsys, *options)
    assert str(path) in line and said in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no usable"),
        ('{"text": "  "}\n', "no usable"),
        ('{"url": "https://elsewhere.org/x"}\n', "none of"),
        ('{"text": "fine fine"}\n{"text": \n', "rows.jsonl:2: not a row of JSON"),
    ],
)
def test_a_wrong_seed_file_is_one_line(capsys, tmp_path, text, said):
    pages = {f"https://a.org/{i}": f"page number {i} " * 30 for i in range(20)}
    warc = write_warc(tmp_path / "a.warc.gz", pages)
    (tmp_path / "rows.jsonl").write_text(text)
    files = ("--warc", str(warc), "--seed", str(tmp_path / "rows.jsonl"))
    assert said in complaint(capsys, "--stage", "mine", "--out", str(tmp_path / "run"), *files)


def test_a_mistake_found_before_any_work_leaves_the_folder_free(capsys, tmp_path):
    out = ("--stage", "mine", "--out", str(tmp_path))
    assert "not installed" in complaint(capsys, *out, "--docs.packages", "no_such_package")
    run(*out)


def test_another_configuration_in_the_folder_is_refused_and_nothing_is_lost(capsys, tmp_path, monkeypatch):
    from dsm_jax.run import read_json

    run("--out", str(tmp_path), "--stage", "mine")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    check_the_invented_funnel(tmp_path / "mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    said = complaint(capsys, "--out", str(tmp_path), "--rng-seed", "7")
    assert "--rng-seed (there 0, now 7)" in said and str(tmp_path) in said
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert read_json(tmp_path / "config.json")["rng_seed"] == 0


def check_the_invented_funnel(mined):
    """The one of the report's tests has what a real one has."""
    from run_folder import funnel

    from dsm_jax.run import read_json

    real, judged, invented = read_json(mined / "funnel.json"), read_json(mined / "judged.json"), funnel()
    assert set(invented) == set(real | judged)
    assert set(invented["iterations"][0]) == set(real["iterations"][0] | judged["iterations"][0])
    assert set(invented["iterations"][0]["domains"][0]) == set(real["iterations"][0]["domains"][0])
    for name in ("contamination", "corpus_by", "planted"):
        assert set(invented[name]) == set((real | judged)[name])


@pytest.mark.slow
def test_full_has_process_supervision_and_controls(tmp_path, monkeypatch, capsys):
    from dsm_jax.rl.reward_model.folder import load_reward_model
    from dsm_jax.run import read_json

    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from run_folder import supervision

    words = ("--full", "--out", str(tmp_path))
    run(*words)
    results, invented = read_json(tmp_path / "results.json"), supervision()
    assert set(results["models"]) == {
        "base", "sft", "grpo", "random_reward", "shuffled_reward", "sft_longer", "process_reward",
    }  # fmt: skip
    assert any(key.startswith("pass@") for key in results["models"]["process_reward"])
    assert set(results["supervision"]) == set(invented)
    for part in ("labels", "reward_model"):  # the invented one of the report's tests has what a real one has
        assert set(results["supervision"][part]) == set(invented[part])
    assert set(results["supervision"]["labels"]["steps"]) == set(invented["labels"]["steps"])
    assert set(results["supervision"]["reward_model"]["examples"]) == set(
        invented["reward_model"]["examples"]
    )
    assert set(results["supervision"]["reward_model"]["held_out"]) == set(
        invented["reward_model"]["held_out"]
    )
    assert load_reward_model(tmp_path / "reward_model/model").kind == "process"
    assert (tmp_path / "labels/labels.jsonl").exists()
    before = (tmp_path / "report.html").read_bytes()
    assert b"Process supervision" in before
    capsys.readouterr()
    run(*words)
    run("--out", str(tmp_path))  # which keeps what --full has made
    assert (tmp_path / "report.html").read_bytes() == before and "process_reward" in capsys.readouterr().out
