"""Files of the Hugging Face hub: the local cache's, or downloaded where the disk has room; one line for what goes wrong.

A download may have been cut short. The hub's library keeps a list of the repository's files from before the first of them,
and refuses a cache that lacks one; of a cache without that list (an older library's) it does not know.

Left out on purpose: uploads, logging in (the library's own `hf auth login`), revisions other than the newest.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from dsm_jax.errors import UserError

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
Kind = Literal["model", "dataset"]


def hub_folder(
    name: str,
    patterns: list[str],
    *,
    kind: Kind,
    is_complete: Callable[[Path], bool] | None = None,
    check: Callable[[Mapping[str, int]], None] = lambda sizes: None,
) -> Path:
    """The local cache's folder of hub id `name` where it is complete, otherwise after a download of `patterns`.

    is_complete: None where the files do not tell; then the library's list has to, and without one the hub is asked (where
    it cannot be reached the folder is taken as it is, with a line on stderr). check(bytes of every file there is): called
    before a download, to refuse it. Raises UserError, also where the disk has no room.
    """
    from huggingface_hub import snapshot_download  # only here: most runs load a folder
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalEntryNotFoundError

    local: Path | None = None
    try:
        with suppress(LocalEntryNotFoundError):
            local = Path(
                snapshot_download(name, repo_type=kind, allow_patterns=patterns, local_files_only=True)
            )
            if is_complete(local) if is_complete else _is_listed(name, kind):
                return local
        try:
            sizes = _sizes(name, kind)
        except (HTTPError, OSError) as error:
            if local is None or is_complete:
                raise
            print(
                f"{name}: taken as the cache has it, whole or not; the hub gave: {_line(error)}",
                file=sys.stderr,
            )
            return local
        check(sizes)
        _require_disk(name, sizes, patterns)
        return Path(snapshot_download(name, repo_type=kind, allow_patterns=patterns))
    except HFValidationError as error:
        raise UserError(f"{name}: no such folder, and not a hub id of the form owner/name") from error
    except (HTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{name}: no such folder, not whole in the local cache of the hub, and the hub gave: {_line(error)}; "
            "give a folder"
        ) from error


def _is_listed(name: str, kind: Kind) -> bool:
    """Whether the library has the list of files by which it finds a cache incomplete."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    try:
        return bool(get_cached_repo_tree(name, repo_type=kind))
    except CachedRepoTreeNotFoundError:
        return False


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _sizes(name: str, kind: Kind) -> dict[str, int]:
    """Bytes of every file of a hub id."""
    from huggingface_hub import HfApi

    ask = HfApi().model_info if kind == "model" else HfApi().dataset_info
    return {file.rfilename: file.size or 0 for file in ask(name, files_metadata=True).siblings or ()}


def _require_disk(name: str, sizes: Mapping[str, int], patterns: list[str]) -> None:
    """UserError where the files that match `patterns` do not fit on the cache's disk."""
    from huggingface_hub import constants
    from huggingface_hub.utils import filter_repo_objects

    needed = sum(sizes[file] for file in filter_repo_objects(sizes, allow_patterns=patterns))
    cache = Path(constants.HF_HUB_CACHE)
    at = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    free = shutil.disk_usage(at).free
    if needed > free:
        raise UserError(
            f"{name}: its files take {needed / 1e9:.1f} GB, but {at} has {free / 1e9:.1f} GB free; "
            "free some, or set HF_HOME to a larger disk"
        )
