"""Kills a command at random moments, starts it again, and compares its results with an undisturbed run's.

    python experiments/drill.py --kills 5
    python experiments/drill.py --kills 2 -- python experiments/grpo_7b.py --preset smoke --out {out}
    python experiments/drill.py --kills 20 --compare results.json model/model.safetensors --writes orbax-checkpoint windows \\
        -- python experiments/pretrain_7b.py --preset smoke --out {out}

Every kill is a `kill -9` of a fresh run, started again until it ends. Each moment is printed; the last kills wait for
a file that is being written, one for each of --writes. Two undisturbed runs come first: they must agree, and the second
one's time says when to kill. Leaves out on purpose: power failures, and children that outlive the killed process.
"""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dsm_jax.cli import run_script
from dsm_jax.errors import UserError
from dsm_jax.run import METRICS, read_metrics, write_json

QUICKSTART = ("python", "experiments/quickstart.py", "--preset", "smoke", "--out", "{out}")
# What a metric is of the process, not of the training: what a killed run had decoded it does not decode again.
TIMES = ("seconds", "step_time", "tokens_per_second", "data_wait_share", "compilations")
TIMES += ("idle_share", "bandwidth_share", "mfu")
TRIES = 10  # draws of a moment until the run is still going at it
POLL_S = 0.0005


@dataclass(frozen=True)
class Drill:
    preset: str = "quickstart"
    """Which command: quickstart, unless one stands after --."""
    kills: int = 5
    """Runs to kill."""
    rng_seed: int | None = None
    """Seed of the moments; None draws one and prints it."""
    compare: tuple[str, ...] = ("results.json",)
    """Files of the run directory to compare: JSON and metrics.jsonl by value, others by their bytes."""
    writes: tuple[str, ...] = ("",)
    """The last kills, one for each of these texts, come at the write of a file whose path holds the text."""
    ignore: tuple[str, ...] = TIMES
    """Keys of what is compared by value that may differ, with what stands behind a / of theirs."""
    out: Path = Path("runs/drill")
    """Folder of the runs and their logs."""
    json: Path | None = None
    """Where to write what happened."""
    command: tuple[str, ...] = QUICKSTART
    """The command, {out} in the place of its run directory; easier given after --."""


def main(config: Drill) -> None:
    """Kills a command at random moments, starts it again, and compares its results with an undisturbed run's."""
    _check(config)
    seed = random.randrange(10**6) if config.rng_seed is None else config.rng_seed
    rng = random.Random(seed)
    print(f"{' '.join(config.command)}\n{config.kills} kills, --rng-seed {seed}", flush=True)

    first, _ = undisturbed(config, "undisturbed")
    expected, seconds = undisturbed(config, "again")
    print(f"undisturbed: {seconds:.1f} s", flush=True)
    if first != expected:
        sys.exit(f"{_difference(first, expected)} differs between two undisturbed runs")

    kills = [killed(config, n, seconds, rng, expected) for n in range(1, config.kills + 1)]
    report = {
        "command": config.command,
        "rng_seed": seed,
        "undisturbed_seconds": round(seconds, 1),
        "kills": kills,
    }
    if config.json:
        write_json(config.json, report)
    wrong = [kill for kill in kills if kill["differs"]]
    print(
        f"{len(kills) - len(wrong)} of {len(kills)} killed runs ended in the same {', '.join(config.compare)}"
    )
    if wrong:
        sys.exit(1)


def undisturbed(config: Drill, name: str) -> tuple[Any, float]:
    """(what the run left to compare, its seconds) of a run from nothing to its end."""
    out = _fresh(config, name)
    start = time.monotonic()
    _finish(config, out)
    return _result(config, out), time.monotonic() - start


def killed(config: Drill, number: int, seconds: float, rng: random.Random, expected: Any) -> dict[str, Any]:
    """Kills one run of about `seconds`, starts it again to its end, and says what differs from `expected`."""
    place_of_write = number - 1 - (config.kills - len(config.writes))
    write = config.writes[place_of_write] if place_of_write >= 0 else None
    for _ in range(TRIES):
        out = _fresh(config, f"killed_{number}")
        moment = rng.uniform(0, seconds * (1 if write is None else 0.5))
        place = _kill(config, out, moment, write)
        if place is not None:
            break
    else:
        raise UserError(f"the command ended before each of {TRIES} kills: it is too short to kill")
    _finish(config, out)
    differs = _difference(_result(config, out), expected)
    verdict = f"{differs} DIFFERS" if differs else "same result"
    print(f"kill {number} at {moment:.2f} s{place}: {verdict}", flush=True)
    return {"after_seconds": round(moment, 2), "place": place.strip(), "differs": differs}


def _kill(config: Drill, out: Path, moment: float, write: str | None) -> str | None:
    """Starts the command and kills it; returns where it was, or None if it ended before."""
    writing = None
    with _start(config, out) as process:
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            writing = None if write is None else _wait_for_write(process, out, write)
            process.kill()
    if process.returncode != -signal.SIGKILL:
        _check_exit(process, out)
        return None
    return f" at the write of {writing}" if writing else ""


def _wait_for_write(process: subprocess.Popen[bytes], out: Path, text: str) -> str | None:
    """Waits for a file or folder under its temporary name; its path in the run directory, or None at the end."""
    while process.poll() is None:
        for folder, folders, files in os.walk(out):
            for name in folders + files:
                path = str((Path(folder) / name).relative_to(out))
                if "tmp" in name and text in path:
                    return path
        time.sleep(POLL_S)
    return None


def _finish(config: Drill, out: Path) -> None:
    with _start(config, out) as process:
        process.wait()
    _check_exit(process, out)


def _check_exit(process: subprocess.Popen[bytes], out: Path) -> None:
    if process.returncode:
        log = _log(out)
        sys.stderr.write("".join(log.read_text(errors="replace").splitlines(keepends=True)[-15:]))
        raise UserError(f"the command ended with exit code {process.returncode}; its output is in {log}")


def _start(config: Drill, out: Path) -> subprocess.Popen[bytes]:
    words = [word.replace("{out}", str(out)) for word in config.command]
    if words[0] == "python":
        words[0] = sys.executable
    with _log(out).open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log)


def _log(out: Path) -> Path:
    return out.with_suffix(".log")


def _fresh(config: Drill, name: str) -> Path:
    """A run directory that does not exist yet, its log empty."""
    out = config.out / name
    shutil.rmtree(out, ignore_errors=True)
    config.out.mkdir(parents=True, exist_ok=True)
    _log(out).write_bytes(b"")
    return out


def _result(config: Drill, out: Path) -> dict[str, Any]:
    """What the files hold, by their names."""
    return {name: _content(config, out / name) for name in config.compare}


def _content(config: Drill, path: Path) -> Any:
    if not path.exists():
        raise UserError(f"the command ended without {path}: --compare names files it writes")
    if path.name == METRICS:
        return _timeless(read_metrics(path), config.ignore)
    if path.suffix != ".json":
        return path.read_bytes()
    return _timeless(json.loads(path.read_text()), config.ignore)


def _timeless(value: Any, ignore: Sequence[str]) -> Any:
    """JSON without the keys that may differ."""
    if isinstance(value, list):
        return [_timeless(one, ignore) for one in value]
    if not isinstance(value, dict):
        return value
    return {k: _timeless(v, ignore) for k, v in value.items() if k.split("/")[0] not in ignore}


def _difference(a: Any, b: Any, name: str = "") -> str:
    """The dotted name of the first value that differs; empty where all are equal."""
    if isinstance(a, list) and isinstance(b, list):
        a, b = (dict(enumerate(one)) for one in (a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        parts = (_difference(a.get(k), b.get(k), f"{name}.{k}") for k in sorted(a.keys() | b.keys()))
        return next(filter(None, parts), "")
    return "" if a == b else name.lstrip(".") or "the file"


def _check(config: Drill) -> None:
    if config.kills < len(config.writes):
        raise UserError(
            f"--kills {config.kills}: give {len(config.writes)} or more, one for each of --writes"
        )
    if not any("{out}" in word for word in config.command):
        raise UserError("the command has no {out}: put it where the command takes its run directory")


if __name__ == "__main__":
    ours = list(itertools.takewhile(lambda word: word != "--", sys.argv[1:]))
    given = tuple(sys.argv[2 + len(ours) :])
    run_script(
        lambda config: main(replace(config, command=given or config.command)), {"quickstart": Drill()}, ours
    )
