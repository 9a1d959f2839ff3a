"""One run in several processes: how they find each other, which one writes, and how the others wait for it.

Every process runs the same program over one mesh. Files are on a disk that all of them see; the first process writes
those that are not arrays. Left out on purpose: processes that come and go during a run.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax._src.distributed import global_state  # its store of keys has no public name
from jax.experimental.multihost_utils import broadcast_one_to_all

from dsm_jax.ending import watch_others
from dsm_jax.errors import Preempted, SharedError, UserError

POLL_S = 0.2
# What may end the first process's work, and with it the others; anything else is a mistake of ours.
ENDS: dict[str, type[BaseException]] = {
    kind.__name__: kind for kind in (SharedError, Preempted, KeyboardInterrupt)
}
_calls = itertools.count()  # on_first_process is called in the same order everywhere: a call's name


def join_processes() -> None:
    """Joins the other processes of a TPU pod or a Slurm job, or those that JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID name; from then on they end together. Alone, and the second time, it does nothing."""
    if not jax.distributed.is_initialized():
        jax.config.update("jax_enable_preemption_service", False)  # would take SIGTERM away from Python
        _join()
        if jax.distributed.is_initialized():
            _one_sum_at_a_time()
    watch_others()


def _join() -> None:
    if os.environ.get("JAX_COORDINATOR_ADDRESS"):
        try:
            count, own = (int(os.environ[name]) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
        except (KeyError, ValueError) as error:
            raise UserError(
                "JAX_COORDINATOR_ADDRESS is set: set JAX_NUM_PROCESSES and JAX_PROCESS_ID to numbers too"
            ) from error
        if not (0 <= own < count and ":" in os.environ["JAX_COORDINATOR_ADDRESS"]):
            raise UserError(
                f"JAX_COORDINATOR_ADDRESS must be HOST:PORT, and JAX_PROCESS_ID, {own}, below JAX_NUM_PROCESSES, {count}"
            )
        jax.distributed.initialize(num_processes=count, process_id=own)
    elif _is_one_of_several(os.environ):
        try:
            jax.distributed.initialize()
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"this process could not join the others of its pod or Slurm step ({error}); set "
                "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
            ) from error


def _one_sum_at_a_time() -> None:
    """XLA:CPU's own schedule has sums over the processes run at once; their messages were seen to meet, which ends the run."""
    flag = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"


def _is_one_of_several(environment: Mapping[str, str], dev: Path = Path("/dev")) -> bool:
    """Whether jax's own detection of a cluster is to be asked: a Slurm step of several tasks, or a TPU host.

    A lone process on a TPU host joins itself, which is harmless. Other machines have such devices too (a laptop's NPU, a
    passed-through card), but not the TPU's library.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS") or "1"
    in_step = "SLURM_PROCID" in environment and int(tasks) > 1
    device = any(dev.glob("accel*")) or (dev / "vfio/0").exists()
    return in_step or (device and find_spec("libtpu") is not None)


def require_one_process(script: str) -> None:
    """UserError in a process that is one of several."""
    if jax.process_count() > 1:
        raise UserError(
            f"{jax.process_count()} processes: {script} runs in one; start it once, on a machine with all devices"
        )


def is_first_process() -> bool:
    return jax.process_index() == 0


def on_first_process(work: Callable[[], object]) -> None:
    """work() in the first process; the others wait for it, however long it takes; its error is theirs, in one line, and a
    UserError is a SharedError in all.

    Every process calls this, in the same order. Not a collective operation of the devices: those give up after minutes.
    """
    if jax.process_count() == 1:
        work()
        return
    client: Any = global_state.client
    name = f"dsm_jax/on_first_process/{next(_calls)}"
    if is_first_process():
        try:
            _sharing(work)
        except BaseException as error:  # the others must not wait for ever
            client.key_value_set(name, f"{type(error).__name__}:{error}")
            raise
        client.key_value_set(name, "")
        return
    while (said := _try_get(client, name)) is None:
        time.sleep(POLL_S)  # a signal is answered here
    if said:
        kind, _, message = said.partition(":")
        raise ENDS.get(kind, UserError)(message)


def _sharing(work: Callable[[], object]) -> None:
    try:
        work()
    except UserError as error:
        raise SharedError(str(error)) from error


def from_first_process(work: Callable[[], bytes]) -> bytes:
    """What work() gives in the first process, in all of them; its error is theirs."""
    made: list[bytes] = []
    on_first_process(lambda: made.append(work()))
    return broadcast_bytes(made[0] if made else b"")


def json_from_first_process(work: Callable[[], Any]) -> Any:
    """What work() gives in the first process, as JSON has it, in all of them."""
    return json.loads(from_first_process(lambda: json.dumps(work()).encode()))


def first_process_finds(check: Callable[[], bool]) -> bool:
    """What check() says in the first process, in all of them."""
    return bool(from_first_process(lambda: b"yes" if check() else b""))


def broadcast_bytes(data: bytes) -> bytes:
    """The first process's data in all of them; a collective operation of the devices."""
    if jax.process_count() == 1:
        return data
    size = int(broadcast_one_to_all(np.int32(len(data))))
    padded = np.zeros(size, np.uint8)
    if is_first_process():
        padded[:] = np.frombuffer(data, np.uint8)
    return np.asarray(broadcast_one_to_all(padded)).tobytes()


def wait_for_first_process() -> None:
    """Waits until the first process has come here too. The last thing of a run: who ends earlier is missed after minutes."""
    on_first_process(lambda: None)


def _try_get(client: Any, name: str) -> str | None:
    try:
        return client.key_value_try_get(name)
    except jax.errors.JaxRuntimeError as error:
        if "NOT_FOUND" not in str(error):
            raise
        return None
