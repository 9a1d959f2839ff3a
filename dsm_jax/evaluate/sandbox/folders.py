"""Emptying a folder that a hostile program filled: trees of any depth, without rights, with links."""

import os
from itertools import count


def make_empty(folder: str) -> None:
    """Removes everything in the folder. Folders are moved to its top one by one: no path gets long, nothing recurses."""
    numbers, own = count(), f".removing-{os.urandom(8).hex()}-"
    while entries := list(os.scandir(folder)):
        for entry in entries:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            os.chmod(entry.path, 0o700)
            for inner in list(os.scandir(entry.path)):
                if inner.is_dir(follow_symlinks=False):
                    os.chmod(inner.path, 0o700)
                    os.rename(inner.path, f"{folder}/{own}{next(numbers)}")
                else:
                    os.unlink(inner.path)
            os.rmdir(entry.path)
