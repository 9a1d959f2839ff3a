"""Pairs that need symbolic mathematics: right, in order, side by side; a hung or greedy worker costs its time only."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dsm_jax.errors import UserError
from dsm_jax.evaluate.grader import cluster, grade, grade_many, pool
from dsm_jax.evaluate.grader.pool import Pool

SLOW = (r"\boxed{\sum_{n=1}^{\infty} \frac{\sin n}{n^3+\ln n}}", "x+1")


@pytest.mark.parametrize(
    ("gold", "answer", "correct"),
    [
        ("2", r"\int_0^2 x\,dx", True),
        ("3", r"\int_0^2 x\,dx", False),
        ("x^2+C", r"\int 2x\,dx + C", True),
        ("1", r"\lim_{x\to 0}\frac{\sin x}{x}", True),
        (r"\frac{\pi^2}{6}", r"\sum_{n=1}^{\infty}\frac{1}{n^2}", True),
        ("2", r"\sum_{n=1}^{\infty}\frac{1}{2^n}", False),
        (r"\int_0^1 x dx", "0.5", True),
    ],
)
def test_integrals_limits_and_series(gold, answer, correct):
    assert grade(f"\\boxed{{{answer}}}", gold, timeout_s=20).correct is correct


def test_many_keep_their_order_and_are_counted():
    pairs = [
        (r"\boxed{3}", "3"),
        (r"\boxed{\int_0^2 x\,dx}", "2"),
        SLOW,
        (r"\boxed{4}", "3"),
        (r"\boxed{\int_0^2 x\,dx}", "5"),
        ("", "1"),
    ]
    done = []
    start = time.perf_counter()
    verdicts = grade_many(pairs * 2, on_done=lambda: done.append(1))
    assert [verdict.correct for verdict in verdicts] == [True, True, False, False, False, False] * 2
    assert verdicts[2].reason == "not decided in time"
    assert len(done) == 12
    assert time.perf_counter() - start < 60
    assert grade_many([(r"\boxed{24}", "B"), (r"\boxed{24}", "B")], options=[["12", "24"], ["24", "12"]])[
        0
    ].correct
    with pytest.raises(UserError, match="mode lenient is unknown"):
        grade_many([("1", "1")], mode="lenient")
    assert grade_many([]) == []


def test_a_hung_worker_is_killed_and_the_next_pair_has_another():
    one = Pool()
    try:
        assert one.decide(SLOW[0][7:-1], SLOW[1], (), 0.5) is None
        assert one.idle == []
        assert one.decide(r"\int_0^2 x\,dx", "2", (), 30) is True
        (worker,) = one.idle
        worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()
        assert one.decide(r"\int_0^2 x\,dx", "2", (), 30) is None
        assert one.decide(r"\int_0^2 x\,dx", "2", (), 30) is True
    finally:
        one.close()


def test_a_worker_has_a_memory_limit():
    code = f"import resource, sys; sys.argv[1:] = [str({pool.MEMORY})]\nfrom dsm_jax.evaluate.grader import worker\n"
    code += "sys.stdin = iter(())\nworker.main()\nbytearray(3 << 30)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MemoryError" in done.stderr


def test_threads_grade_at_once():
    found = []
    ask = lambda: found.append(grade(r"\boxed{\int_0^2 x\,dx}", "2", timeout_s=30).correct)
    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 6


def test_a_fork_has_workers_of_its_own():
    """In a process without jax's threads."""
    code = (
        "import os\nfrom dsm_jax.evaluate.grader import grade, pool\n"
        "assert grade(r'\\boxed{\\int_0^2 x dx}', '2', timeout_s=30).correct\n"
        "mine, child = pool.shared_pool(), os.fork()\n"
        "if child == 0:\n    os._exit(0 if pool.shared_pool() is not mine else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_workers_end_with_their_process():
    code = (
        "from dsm_jax.evaluate.grader import grade, pool\n"
        "grade(r'\\boxed{\\int_0^2 x dx}', '2', timeout_s=30)\n"
        "print(pool.shared_pool().idle[0].process.pid)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)


def test_the_parent_never_imports_sympy():
    code = (
        "import sys\nfrom dsm_jax.evaluate import grade\n"
        "assert grade(r'\\boxed{\\sqrt{8}}', '2\\\\sqrt{2}').correct\n"
        "assert grade(r'\\boxed{\\int_0^2 x dx}', '2', timeout_s=30).correct\n"
        "assert 'sympy' not in sys.modules and 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_votes_for_the_same_answer_are_counted_together():
    answers = [
        "1/2",
        "0.5",
        None,
        "2",
        "\\frac{1}{2}",
        "\\sqrt{4}",
        "x=2",
        "1,2",
        "2,1",
        "(x+1)^2",
        "x^2+2x+1",
        "B",
        "(B)",
    ]
    assert cluster(answers) == [0, 0, None, 1, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert cluster([]) == []
    assert cluster([str(number) for number in range(200)] + ["199.0"]) == [*range(200), 199]
