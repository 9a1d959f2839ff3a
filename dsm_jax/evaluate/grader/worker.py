"""The program of a worker: reads a pair as a line of JSON, answers whether it is equal, until its input ends.

`python -m dsm_jax.evaluate.grader.worker MEMORY_BYTES`. It limits its own memory, and an alarm ends it when a pair takes longer than
it may, should the parent be gone by then. Text is only ever parsed by parse.py.
"""

import json
import resource
import signal
import sys

from dsm_jax.evaluate.grader import same, symbolic
from dsm_jax.evaluate.grader.equal import same_answer


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it closes the pipe
    memory = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    same.decide_symbolically = symbolic.decide
    print("ready", flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        signal.setitimer(signal.ITIMER_REAL, task["timeout_s"] + 1)
        try:
            equal = same_answer(task["answer"], task["gold"], tuple(task["options"]))
        except Exception:  # noqa: BLE001, whatever sympy raises, MemoryError too: not found to be equal
            equal = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(equal), flush=True)


if __name__ == "__main__":
    main()
