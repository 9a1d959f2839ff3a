"""A script whose second process fails while the first waits for it in the devices: python -m tests.one_fails --how HOW"""

import os
import signal
import sys
import time
from dataclasses import dataclass

import jax
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from dsm_jax import ending
from dsm_jax.cli import run_script
from dsm_jax.errors import UserError
from dsm_jax.processes import join_processes, on_first_process


@dataclass(frozen=True)
class Options:
    """How the second process fails."""

    preset: str = "only"
    how: str = "mistake"


def main(options: Options) -> None:
    join_processes()
    process_allgather(np.ones(1))  # all have begun
    if options.how == "in first":
        on_first_process(lambda: os.kill(os.getpid(), signal.SIGINT) or time.sleep(60))
    if jax.process_index() == 1:
        if options.how == "mistake":
            raise UserError("part-00001 is damaged")
        if options.how == "bug":
            raise ZeroDivisionError
        os.kill(os.getpid(), signal.SIGTERM)
    if options.how == "while writing":
        on_first_process(lambda: time.sleep(60))
    process_allgather(np.ones(1))
    sys.exit("not to be reached")


if __name__ == "__main__":
    ending.GRACE_S = 2.0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    run_script(main, {"only": Options()})
