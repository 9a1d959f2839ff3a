"""A split of a data set on the Hugging Face hub, as files that our readers take.

A name is owner/name or owner/name/CONFIGURATION. Which files are which split the data set's card says (README.md, `configs`,
by globs as datasets reads them). Without one that can be read the names do: a file or folder called after a split
("train-00000-of-00002.parquet", "data/test.jsonl"), in the folder of the configuration where there is one; files of no split
are "train".
Left out on purpose: data sets made by a script (it would be run), and audio, image and CSV files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.utils import glob_translate  # type: ignore[import-untyped]

from dsm_jax.data.instructions import file_kind, find_sft_parts
from dsm_jax.data.texts import Part
from dsm_jax.errors import UserError
from dsm_jax.hub import hub_folder
from dsm_jax.rows import PARQUET, ROWS

CARD = "README.md"
PATTERNS = [CARD, *(f"*{ending}" for ending in ROWS + PARQUET)]
SPLITS = ("train", "test", "validation")
WORDS = {"train": "train(ing)?", "test": "test(ing)?|eval(uation)?", "validation": "valid(ation)?|val|dev"}
# Of a configuration: split -> files, by their names in the repository, or their patterns.
Files = dict[str, list[str]]


def find_hub_split(name: str, split: str) -> list[Part]:
    """The parts of a split; none where the data set has no such split. Downloaded where the cache has it not.

    Raises UserError where there is nothing to read, or several configurations and none is named.
    """
    owner, _, rest = name.partition("/")
    repository, _, wanted = rest.partition("/")
    folder = hub_folder(f"{owner}/{repository}", PATTERNS, kind="dataset")
    files = _data_files(folder)
    if not files:
        raise UserError(f"{name}: no file of a kind that can be read (JSON lines, JSON, parquet)")
    if patterns := _of_card(folder / CARD):
        chosen = _matching(name, files, _choose(name, wanted, patterns))
    else:
        chosen = _choose(name, wanted, _of_names(files))
    return find_sft_parts([folder / file for file in chosen[split]]) if chosen.get(split) else []


def _data_files(folder: Path) -> list[str]:
    found = (file for file in folder.rglob("*") if file.is_file() and file_kind(file))
    return sorted(file.relative_to(folder).as_posix() for file in found)


def _choose(name: str, wanted: str, configurations: dict[str, Files]) -> Files:
    if not wanted and len(configurations) == 1:
        return next(iter(configurations.values()))
    found = configurations.get(wanted or "default")
    if found is None:
        there, example = ", ".join(configurations), next(iter(configurations))
        what = f"no configuration {wanted}" if wanted else "several configurations"
        base = name.removesuffix(f"/{wanted}")
        raise UserError(f"{name}: {what}; there are {there}: name one, such as hub:{base}/{example}")
    return found


def _of_card(card: Path) -> dict[str, Files]:
    """The patterns that the card's `configs` give; nothing where it has none."""
    found = {
        str(entry.get("config_name", "default")): _split_patterns(entry.get("data_files"))
        for entry in _configs(card)
    }
    return {name: patterns for name, patterns in found.items() if patterns}


def _configs(card: Path) -> list[dict[str, Any]]:
    """The entries of the card's metadata; YAML's plain values only, no object is made."""
    import yaml  # type: ignore[import-untyped]

    if not card.is_file():
        return []
    head = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        said = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return []
    entries = said.get("configs") if isinstance(said, dict) else None
    return [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []


def _split_patterns(data_files: Any) -> dict[str, list[str]]:
    """split -> patterns, of any form that a card may have."""
    if isinstance(data_files, str):
        return {"train": [data_files]}
    if not isinstance(data_files, list):
        return {}
    if all(isinstance(one, str) for one in data_files):
        return {"train": data_files}
    found: dict[str, list[str]] = {}
    for one in data_files:
        if isinstance(one, dict) and "path" in one:
            paths = one["path"] if isinstance(one["path"], list) else [one["path"]]
            found.setdefault(str(one.get("split", "train")), []).extend(map(str, paths))
    return found


def _matching(name: str, files: Sequence[str], patterns: Files) -> Files:
    """The files of each split. UserError for a pattern without one."""
    found: Files = {}
    for split, each in patterns.items():
        parts = {pattern: [file for file in files if _matches(file, pattern)] for pattern in each}
        if empty := [pattern for pattern, part in parts.items() if not part]:
            raise UserError(
                f"{name}: {CARD} names {empty[0]} for the split {split}, which is no file that can be read (JSON lines, "
                "JSON, parquet); fetch the files, and give them instead"
            )
        found[split] = sorted({file for part in parts.values() for file in part})
    return found


def _matches(file: str, pattern: str) -> bool:
    """Whether a glob matches: * stays within a folder, **/ is any number of them, {a,b} is either."""
    if braces := re.search(r"\{([^{}]*)\}", pattern):
        before, after = pattern[: braces.start()], pattern[braces.end() :]
        return any(_matches(file, f"{before}{one}{after}") for one in braces[1].split(","))
    pattern = pattern.removeprefix("./").rstrip("/")
    parts = (part if part == "**" else re.sub(r"\*+", "*", part) for part in pattern.split("/"))
    is_match = re.match(glob_translate("/".join(parts)), file)
    return bool(is_match) or file.startswith(f"{pattern}/")  # a folder is all that is in it


def _of_names(files: Sequence[str]) -> dict[str, Files]:
    """By the names of files and folders; the first folder that is called after no split names a configuration."""
    found: dict[str, Files] = {}
    for file in files:
        path = PurePosixPath(file)
        split = next((one for one in map(_split_of, (path.stem, *path.parts[:-1])) if one), "train")
        folders = [one for one in path.parts[:-1] if one != "data" and not _split_of(one)]
        configuration = found.setdefault(folders[0] if folders else "default", {})
        configuration.setdefault(split, []).append(file)
    return found


def _split_of(name: str) -> str:
    """The split whose word stands in a name, or nothing."""
    words = (split for split in SPLITS if re.search(rf"(?<![a-z])({WORDS[split]})(?![a-z])", name.lower()))
    return next(words, "")
