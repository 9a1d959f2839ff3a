"""Runs programs in a sandbox of one server, as somebody: a JSON line in, a JSON line out.

    python session.py root|user|container|bubblewrap|bare

root, user: as it is, or by giving up root. container: as Docker lets one, without capabilities, namespaces and mounts.
bubblewrap: on a kernel with namespaces that lacks Landlock and newer ways to mount. bare: a container without Landlock. Started
by the fixtures of conftest.py.
"""

import json
import os
import struct
import sys
from dataclasses import asdict
from pathlib import Path

from dsm_jax.errors import UserError
from dsm_jax.evaluate.sandbox import Limits, Sandbox, kernel, mounts, seccomp
from dsm_jax.evaluate.sandbox.installation import import_path

NEWNS, USER = 0x20000, 12_345
NAMESPACES = {"x86_64": (272, 308, 165, 155), "aarch64": (97, 268, 40, 41)}[
    os.uname().machine
]  # unshare, setns, mount, ...
NEW_MOUNTS, LANDLOCK = (428, 442), (444,)  # open_tree, mount_setattr; on both
REFUSED = {
    "container": NAMESPACES + NEW_MOUNTS,
    "bubblewrap": NEW_MOUNTS + LANDLOCK,
    "bare": NAMESPACES + NEW_MOUNTS + LANDLOCK,
}


def become_user() -> None:
    if os.geteuid() != 0:
        return
    kernel.unshare(NEWNS)
    kernel.mount(None, "/", None, mounts.REC | mounts.PRIVATE)
    open_up([Path(path).resolve() for path in (sys.base_prefix, *import_path())])
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)


def open_up(paths: list[Path]) -> None:
    """Makes paths in private folders reachable for everybody: such a folder is covered by one that shows only the path."""
    flags = mounts.OPEN_TREE_CLONE | mounts.AT_RECURSIVE
    trees = {}
    for path in paths:
        closed = [folder for folder in path.parents if not folder.stat().st_mode & 1]
        if closed and not any(path.is_relative_to(shown) for shown, _ in trees):
            tree = kernel.system_call(mounts.OPEN_TREE, mounts.AT_FDCWD, bytes(path), flags)
            trees[path, closed[-1]] = tree
    for folder in {folder for _, folder in trees}:
        kernel.mount("tmpfs", str(folder), "tmpfs", 0, "mode=0755")
    for (path, _), tree in trees.items():
        mounts._show(tree, path, is_folder=True)


def refuse(numbers: tuple[int, ...]) -> None:
    """As a container's own filter does."""
    steps = [seccomp._step(seccomp.LOAD, seccomp.NUMBER)]
    for number in numbers:
        steps += [seccomp._step(seccomp.EQUAL, number, 0, 1), seccomp._step(seccomp.RETURN, seccomp.REFUSE)]
    code = b"".join([*steps, seccomp._step(seccomp.RETURN, seccomp.ALLOW)])
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(kernel.PR_SET_SECCOMP, 2, seccomp._Program(len(code) // struct.calcsize("=HBBI"), code))


def become(who: str) -> None:
    if who == "user":
        become_user()
    elif who in REFUSED:
        refuse(REFUSED[who])
    if who in ("container", "bare"):
        kernel.drop_capabilities()


def main(who: str) -> None:
    become(who)
    os.environ["DSM_SECRET"] = "secret"
    sandboxes = {isolation: Sandbox(1, isolation=isolation) for isolation in ("required", "none")}
    print(json.dumps({"pid": os.getpid(), "uid": os.geteuid()}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        sandbox = sandboxes[request["isolation"]]
        try:
            result = asdict(
                sandbox.run(request["code"], stdin=request["stdin"], limits=Limits(**request["limits"]))
            )
        except UserError as error:
            result = {"refused": str(error)}
        print(json.dumps(result), flush=True)
    for sandbox in sandboxes.values():
        sandbox.close()


if __name__ == "__main__":
    main(sys.argv[1])
