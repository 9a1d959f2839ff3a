"""What callers see: results, limits, order, threads, servers that die, and a refusal where nothing isolates."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from dsm_jax.errors import UserError
from dsm_jax.evaluate.sandbox import Limits, Sandbox, client, run_many, run_python
from tests.evaluate.sandbox.conftest import require_isolation, session

SLEEP = "import time\ntime.sleep(60)"


@pytest.fixture(scope="module")
def sandbox():
    require_isolation()
    with Sandbox(2) as running:
        yield running


@pytest.mark.parametrize(
    ("code", "status", "stdout", "exit_code"),
    [
        ("print(1 + 1)", "ok", "2\n", 0),
        ("", "ok", "", 0),
        ("import sympy\nprint(sympy.factorint(2**31 - 2))", "ok", "{2: 1, 3: 2, 7: 1, 11: 1, 31: 1, 151: 1, 331: 1}\n", 0),
        ("import numpy as np\nprint(np.arange(4).reshape(2, 2) @ np.eye(2))", "ok", "[[0. 1.]\n [2. 3.]]\n", 0),
        ("print('before')\nraise ValueError('x')", "error", "before\n", 1),
        ("print('before')\nraise SystemExit(7)", "exited", "before\n", 7),
        ("print('before')\nexit()", "exited", "before\n", 0),
        ("print('before')\nimport os\nos._exit(3)", "exited", "before\n", 3),
        ("print('before')\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "killed", "before\n", -9),
        ("print('before')\nwhile True: pass", "timeout", "before\n", -9),
        ("print('before')\nx = 'a' * 10**10", "memory", "before\n", 1),
        ("if __name__ == '__main__': print(__name__)", "ok", "__main__\n", 0),
        ("open('x', 'w').write('ä')\nprint(open('x').read())", "ok", "ä\n", 0),
        ("import tempfile\nwith tempfile.TemporaryFile() as f: print(f.write(b'abc'))", "ok", "3\n", 0),
        ("import asyncio\nasync def f(): print(await asyncio.sleep(0.01, 'a'))\nasyncio.run(f())", "ok", "a\n", 0),
        ("import threading\nthreading.Thread(target=print, args=('a',)).start()", "ok", "a\n", 0),
        ("import atexit\natexit.register(print, 'last')\nprint('first')", "ok", "first\nlast\n", 0),
        ("import pickle\nclass A: x = 1\nprint(pickle.loads(pickle.dumps(A())).x)", "ok", "1\n", 0),
        ("import inspect\ndef f(): return 1\nprint(inspect.getsource(f))", "ok", "def f(): return 1\n\n", 0),
        ("import sys\nprint(sys.argv)", "ok", "['<program>']\n", 0),
        ("import os\nos.write(1, b'\\xff\\n')", "ok", "\ufffd\n", 0),
        ("print('\\ud800')", "ok", "?\n", 0),
    ],
)  # fmt: skip
def test_a_program_ends_as_under_python(sandbox, code, status, stdout, exit_code):
    result = sandbox.run(code, limits=Limits(timeout_s=1))
    assert (result.status, result.stdout, result.exit_code, result.truncated) == (
        status,
        stdout,
        exit_code,
        False,
    )
    assert bool(result.stderr) == (status in ("error", "memory"))


def test_a_traceback_shows_the_programs_lines_and_no_others(sandbox):
    result = sandbox.run("import sympy\ndef f(x):\n    return sympy.Symbol(x)\nf(3)")
    assert result.stderr.splitlines()[:4] == [
        "Traceback (most recent call last):",
        '  File "<program>", line 4, in <module>',
        "    f(3)",
        '  File "<program>", line 3, in f',
    ]
    assert result.stderr.splitlines()[-1] == "TypeError: name should be a string, not <class 'int'>"
    assert "site-packages" not in result.stderr


def test_a_chain_of_errors_keeps_each_ones_lines(sandbox):
    result = sandbox.run("try: 1/0\nexcept Exception as e: raise ValueError('x') from e")
    assert result.stderr.count('File "<program>"') == 2
    assert result.stderr.count("direct cause") == 1


@pytest.mark.parametrize("size", [3_900, 50_000])
def test_of_a_long_traceback_the_last_lines_are_kept(sandbox, size):
    result = sandbox.run(f"raise ValueError('\\n'.join(str(i) for i in range({size})))")
    assert result.stderr.endswith(f"\n{size - 1}\n")
    assert result.stderr.startswith("...\n")
    assert len(result.stderr) <= 4_004


def test_a_syntax_error_names_the_line(sandbox):
    result = sandbox.run("x = 1\nx = = 2\n")
    assert result.status == "error"
    assert 'File "<program>", line 2' in result.stderr
    assert result.stderr.endswith("SyntaxError: invalid syntax\n")


def test_programs_read_their_standard_input(sandbox):
    code = "import sys\nprint(input(), sys.stdin.read().split(), repr(sys.stdin.read()))"
    assert sandbox.run(code, stdin="a\nb\nc\n").stdout == "a ['b', 'c'] ''\n"
    assert sandbox.run("print(len(input()))", stdin="ä" * 10**6).stdout == "1000000\n"
    assert sandbox.run("print(ascii(input()))", stdin="\ud800\0").stdout == "'?\\x00'\n"
    assert sandbox.run("input()").stderr.endswith("EOFError: EOF when reading a line\n")


def test_output_is_cut_at_the_limit_and_kept_below_it(sandbox):
    limits = Limits(output_limit=1_000)
    whole = sandbox.run("print('a' * 999)", limits=limits)
    assert (whole.status, len(whole.stdout), whole.truncated) == ("ok", 1_000, False)
    cut = sandbox.run("print('a' * 1000)", limits=limits)
    assert (cut.status, len(cut.stdout), cut.truncated) == ("output", 1_000, True)
    last = sandbox.run("import sys\nprint('a' * 100_000, file=sys.stderr)", limits=limits)
    assert (last.status, last.truncated) == ("output", True)
    assert 1_000 <= len(last.stderr) < 20_000


def test_memory_is_what_the_program_adds(sandbox):
    code = "x = bytearray(100 << 20)\nprint(len(x))"
    assert sandbox.run(code, limits=Limits(memory_mb=150)).status == "ok"
    assert sandbox.run(code, limits=Limits(memory_mb=90)).status == "memory"


def test_a_large_output_is_whole_where_it_is_allowed(sandbox):
    code = "import sys\nfor i in range(300_000): print(i)\nprint('x' * 2_000_000, file=sys.stderr)"
    result = sandbox.run(code, limits=Limits(output_limit=3_000_000))
    assert (result.status, result.truncated) == ("ok", False)
    assert result.stdout == "".join(f"{i}\n" for i in range(300_000))
    assert result.stderr == "x" * 2_000_000 + "\n"


def test_memory_that_runs_out_ends_sandboxes_first(sandbox):
    sandbox.run("print(1)")
    for pid in servers_of(sandbox):
        family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        assert {Path(f"/proc/{one}/oom_score_adj").read_text() for one in family} == {"1000\n"}


def test_the_same_program_gives_the_same_result(sandbox):
    code = (
        "import random, numpy\nprint({'a', 'b', 'c', 'd'}, random.random(), numpy.random.rand(), hash('x'))"
    )
    results = {sandbox.run(code).stdout for _ in range(4)}
    with Sandbox(1) as another:
        assert results == {another.run(code).stdout}


def test_many_programs_come_back_in_order_and_report_as_they_end(sandbox):
    programs = ["import time\ntime.sleep(0.2)\nprint(0)", *(f"print({i})" for i in range(1, 20))]
    seen = []
    results = sandbox.run_many(programs, on_done=lambda i, result: seen.append((i, result.stdout)))
    assert [result.stdout for result in results] == [f"{i}\n" for i in range(20)]
    assert sorted(seen) == [(i, f"{i}\n") for i in range(20)]
    assert sandbox.run_many([]) == []


def test_an_error_of_the_callback_ends_the_batch(sandbox):
    def fail(index, result):
        raise KeyError(index)

    with pytest.raises(KeyError):
        sandbox.run_many(["print(1)"] * 50, on_done=fail)
    assert sandbox.run("print(2)").stdout == "2\n"


def test_threads_share_a_pool(sandbox):
    results: dict[int, str] = {}

    def ask(number: int) -> None:
        results[number] = sandbox.run(f"print({number})").stdout

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: f"{number}\n" for number in range(12)}


def test_a_server_outlives_the_thread_that_started_it():
    with Sandbox(1) as own:
        thread = threading.Thread(target=own.run, args=("print(1)",))
        thread.start()
        thread.join()
        [server] = servers_of(own)
        assert own.run("print(2)").stdout == "2\n"
        assert servers_of(own) == [server]


def servers_of(sandbox):
    return [worker._process.pid for worker in list(sandbox._free.queue) if worker and worker.is_alive()]


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_dead_server_is_replaced(busy):
    with Sandbox(1) as own:
        own.run("print(1)")
        [server] = servers_of(own)
        if busy:
            killer = threading.Timer(0.3, os.kill, (server, signal.SIGKILL))
            killer.start()
            result = own.run(SLEEP, limits=Limits(timeout_s=20))
            assert (result.status, result.exit_code) == ("killed", None)
            assert result.seconds < 10
        else:
            os.kill(server, signal.SIGKILL)
            time.sleep(0.2)
        assert own.run("print(2)").stdout == "2\n"
        assert servers_of(own) != [server]


def test_closing_ends_servers_and_removes_their_folders(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Sandbox(2) as own:
        own.run_many(["open('x', 'w').write('y')"] * 4)
        pids = servers_of(own)
        assert pids and list(tmp_path.iterdir())
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not list(tmp_path.iterdir())
    assert own.run("print(1)").stdout == "1\n"  # starts anew
    own.close()


@pytest.mark.slow
def test_a_killed_caller_leaves_no_server(tmp_path):
    code = (
        "from dsm_jax.evaluate.sandbox import Sandbox\nimport os, threading, time\n"
        "own = Sandbox(1)\nown.run('1')\nprint(own._free.queue[0]._process.pid, flush=True)\n"
        f"threading.Thread(target=own.run, args=({SLEEP!r},)).start()\ntime.sleep(60)"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    caller = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    launcher = psutil.Process(int(caller.stdout.readline()))
    time.sleep(0.3)
    family = [launcher, *launcher.children(recursive=True)]
    assert len(family) >= 2
    caller.kill()
    caller.wait()
    _, alive = psutil.wait_procs(family, timeout=15)
    assert not alive


def test_an_interrupted_call_is_not_answered_by_the_next(monkeypatch):
    with Sandbox(1) as own:
        own.run("print(1)")

        def interrupt(*_):
            raise KeyboardInterrupt

        old = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                own.run("import time\ntime.sleep(1)\nprint('late')")
        finally:
            signal.signal(signal.SIGALRM, old)
        assert own.run("print('next')").stdout == "next\n"


@pytest.mark.slow
def test_the_process_has_one_pool_and_a_forked_one_has_its_own():
    assert run_python("print(1)").stdout == "1\n"
    assert client._shared("required") is client._shared("required")
    assert [result.stdout for result in run_many(["print(1)", "print(2)"])] == ["1\n", "2\n"]
    code = (
        "import os\nfrom dsm_jax.evaluate.sandbox import client, run_python\nrun_python('1')\n"
        "old = client._shared('required')\npid = os.fork()\n"
        "if pid == 0:\n    ok = run_python('print(2)').stdout == '2\\n' and client._shared('required') is not old\n"
        "    raise SystemExit(0 if ok else 1)\n"
        "_, status = os.waitpid(pid, 0)\nassert status == 0\nworker = old._free.queue[-1]\nassert worker.is_alive()\nassert run_python('print(3)').stdout == '3\\n'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_runs_where_nothing_isolates():
    with session("bare") as machine:
        answer = machine.ask("print(1)")
        assert "landlock: Operation not permitted" in answer["refused"]
        assert "install bubblewrap" in answer["refused"]
        assert "\n" not in answer["refused"]
        assert machine.ask("print(1)", isolation="none")["stdout"] == "1\n"
        assert machine.ask("while True: pass", isolation="none", timeout_s=0.3)["status"] == "timeout"


@pytest.mark.parametrize(
    ("option", "value"),
    [("timeout_s", 0), ("timeout_s", float("inf")), ("timeout_s", float("nan")), ("memory_mb", -1), ("output_limit", 0)],
)  # fmt: skip
def test_impossible_limits_are_named(option, value):
    with pytest.raises(UserError, match=option):
        run_python("print(1)", **{option: value})


def test_bad_options_are_named():
    with pytest.raises(UserError, match="0 workers"):
        Sandbox(0)
    with pytest.raises(UserError, match="'no' is unknown"):
        run_python("print(1)", isolation="no")


def test_importing_evaluate_starts_and_brings_nothing():
    code = "import dsm_jax.evaluate, sys\ndsm_jax.evaluate.run_python\nprint(*(name for name in ('sympy', 'jax', 'scipy') if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_a_program_too_long_for_its_memory_is_a_result(sandbox):
    result = sandbox.run("x = 1\n" * 5_000_000, limits=Limits(timeout_s=20, memory_mb=64))
    assert result.status == "memory"
    assert sandbox.run("print(1)").stdout == "1\n"
