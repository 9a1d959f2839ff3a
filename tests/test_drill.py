"""The kill drill on small commands: it must find what survives a kill, and what does not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Ten stages of 0.1 s, each adding a number to a file that appears by rename.
COMMAND = """
import json, sys, time
from pathlib import Path
from dsm_jax.run import atomic, write_json
out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
state = out / "state.json"
done = json.loads(state.read_text()) if state.exists() else []
{first}
while len(done) < 10:
    time.sleep(0.05)
    done.append(len(done))
    with atomic(state) as tmp:
        tmp.write_text(json.dumps(done))
        time.sleep(0.05)
write_json(out / "results.json", dict(sum=dict(value=sum(done)), starts={starts}, seconds=time.time()))
"""


def drill(folder: Path, code: str, *options: str) -> subprocess.CompletedProcess[str]:
    script = folder / "command.py"
    script.write_text(code)
    words = [sys.executable, str(ROOT / "experiments/drill.py"), "--out", str(folder / "drill"), *options]
    return subprocess.run(
        [*words, "--", "python", str(script), "{out}"], capture_output=True, text=True, check=False
    )


def test_a_command_that_resumes_passes_with_a_kill_inside_a_write(tmp_path):
    code = COMMAND.format(first="", starts=1)
    done = drill(tmp_path, code, "--kills", "2", "--rng-seed", "3", "--json", str(tmp_path / "drill.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 killed runs ended in the same results.json" in done.stdout
    assert "--rng-seed 3" in done.stdout
    report = json.loads((tmp_path / "drill.json").read_text())
    assert [kill["differs"] for kill in report["kills"]] == ["", ""]
    assert report["kills"][1]["place"] == "at the write of state.json.tmp"


def test_a_command_that_takes_up_a_torn_file_is_found(tmp_path):
    first = "if list(out.glob('*.tmp')): done.insert(0, 1)"
    done = drill(tmp_path, COMMAND.format(first=first, starts=1), "--kills", "1", "--rng-seed", "3")
    assert done.returncode == 1
    assert "results.json.sum.value DIFFERS" in done.stdout


# A loss, and the time: in a run that was started again the loss is another one where `loss` says so.
METRICS = """
import sys, time
from pathlib import Path
from dsm_jax.run import write_json
out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
starts = len(list(out.glob("*tmp*"))) + 1
(out / f"tmp{{starts}}").touch()
time.sleep(0.3)
row = '{{"step": 1, "loss": %f, "seconds/update": %f}}' % ({loss}, time.time())
(out / "metrics.jsonl").write_text(row + chr(10))
write_json(out / "results.json", dict(rounds=[dict(loss=1, seconds=dict(all=time.time()))]))
"""
COMPARED = ("--kills", "1", "--rng-seed", "3", "--compare", "metrics.jsonl", "results.json")


def test_times_may_differ_wherever_they_stand(tmp_path):
    done = drill(tmp_path, METRICS.format(loss="1"), *COMPARED)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_loss_may_not(tmp_path):
    done = drill(tmp_path, METRICS.format(loss="starts"), *COMPARED)
    assert done.returncode == 1 and "metrics.jsonl.0.loss DIFFERS" in done.stdout


def test_a_command_that_disagrees_with_itself_is_found(tmp_path):
    done = drill(tmp_path, COMMAND.format(first="", starts="time.time()"), "--kills", "1")
    assert done.returncode == 1
    assert "results.json.starts differs between two undisturbed runs" in done.stderr


@pytest.mark.parametrize(
    ("code", "options", "message"),
    [
        ("raise SystemExit(3)", [], "exit code 3"),
        ("pass", [], "--compare"),
        ("pass", ["--kills", "0"], "--kills 0"),
    ],
)
def test_mistakes_are_one_line(tmp_path, code, options, message):
    done = drill(tmp_path, code, *options)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and message in done.stderr and done.stderr.count("\n") == 1


def test_a_command_without_a_place_for_its_directory(tmp_path):
    words = [sys.executable, str(ROOT / "experiments/drill.py"), "--", "python", "x.py"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "{out}" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("script", ["", "pretrain_7b.py", "sft_7b.py"])
def test_a_stage_killed_twice_ends_in_the_same_results(tmp_path, script):
    """Once at a random moment, once while a checkpoint is written."""
    words = [
        sys.executable,
        "experiments/drill.py",
        "--kills",
        "2",
        "--out",
        str(tmp_path),
        "--writes",
        "orbax-checkpoint",
    ]
    if script:
        words += ["--compare", "results.json", "model/model.safetensors", "--"]
        words += ["python", f"experiments/{script}", "--preset", "smoke", "--out", "{out}"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
