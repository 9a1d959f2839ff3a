"""A Hugging Face model folder on disk: found by path or hub id, its files and tensors checked before any is read.

Left out on purpose: pickled weights (*.bin: loading one runs code from the file), quantised weights.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.hf_config import config_from_hf
from dsm_jax.model.hf_layout import OTHER, layout_of, leaf_name, tensor_names
from dsm_jax.model.params import param_shapes
from dsm_jax.model.tensor_file import CHUNK_BYTES, Tensor, open_tensors
from dsm_jax.run import read_json

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "chat_template.jinja",
)
HUB_FILES = ["config.json", "model*.safetensors", INDEX, *TOKENIZER_FILES]
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
NO_MODEL = "{}: no such folder, and not a hub id of the form owner/name"
FETCH = "fetch it again"


def find_folder(dir_or_hub_id: str | Path) -> Path:
    """The folder itself, or that of a hub id in the local cache, downloaded where it is not complete there.

    Raises UserError before a download for which the disk has no room.
    """
    if Path(dir_or_hub_id).is_dir():
        return Path(dir_or_hub_id)
    name = str(dir_or_hub_id)
    if Path(name).is_file():
        raise UserError(f"{name} is a file: give its folder")
    if not HUB_ID.fullmatch(name):
        raise UserError(NO_MODEL.format(name))
    return _find_on_hub(name, HUB_FILES, _is_complete)


def find_config(dir_or_hub_id: str | Path) -> ModelConfig:
    """The shape of a folder's or a hub id's model, from its config.json; nothing else is downloaded."""
    if Path(dir_or_hub_id).is_dir() or not HUB_ID.fullmatch(str(dir_or_hub_id)):
        return read_config(find_folder(dir_or_hub_id))
    folder = _find_on_hub(str(dir_or_hub_id), ["config.json"], lambda at: (at / "config.json").is_file())
    return read_config(folder)


def read_config(folder: Path) -> ModelConfig:
    file = folder / "config.json"
    if not file.is_file() and (folder / "adapter_config.json").is_file():
        raise UserError(
            f"{folder} holds an adapter: merge it into its base model first, and give that folder"
        )
    if not file.is_file():
        raise UserError(
            f"{file} is missing; give the folder of a model, as save_hf and transformers write it"
        )
    return config_from_hf(read_json(file, FETCH), file)


def find_tensors(folder: Path, config: ModelConfig, *, any_dtype: bool) -> dict[str, Tensor]:
    """The model's tensors by name, their shapes and names those of config.json; nothing but headers is read.

    any_dtype: False asks every tensor to be stored as config.json says. Raises UserError for what is missing,
    damaged, left over, or of another shape or dtype.
    """
    tensors = {tensor.name: tensor for path in _weight_files(folder) for tensor in _open(path)}
    expected = _expected_shapes(config)
    _check_names(folder, set(expected), set(tensors))
    head, embed = (OTHER[name].tensor for name in ("head", "embed"))
    if config.tie_embeddings and head in tensors:
        _check_tied(tensors[head], tensors[embed])
    stored = read_json(folder / "config.json", FETCH)
    stored = stored.get("dtype") or stored.get("torch_dtype")
    for name, shape in expected.items():
        tensor = tensors[name]
        if tensor.shape != shape:
            raise UserError(
                f"{tensor.path}: {name} has shape {tensor.shape}, config.json asks for {shape}; "
                "the two do not belong together"
            )
        if stored and not any_dtype and tensor.dtype.name != stored:
            raise UserError(
                f"{tensor.path}: {name} is stored as {tensor.dtype.name}, config.json says {stored}; say which dtype "
                "you want (load_hf's dtype), or fetch it again"
            )
    dtypes = sorted({tensors[name].dtype.name for name in expected})
    if len(dtypes) > 1 and not any_dtype:
        raise UserError(
            f"{folder}: tensors in {' and '.join(dtypes)}; say which dtype you want (load_hf's dtype)"
        )
    return {name: tensors[name] for name in expected}


def _expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Tensor name -> the shape that config.json gives it."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path, leaf in jax.tree.leaves_with_path(param_shapes(config)):
        name = leaf_name(path)
        names = tensor_names(config, name)
        ours = leaf.shape if name in OTHER else leaf.shape[1:]
        shapes |= dict.fromkeys(names, layout_of(name).stored(ours))
    return shapes


def _check_names(folder: Path, expected: set[str], found: set[str]) -> None:
    """Every parameter has its tensors, and no tensor is left over that would change the result."""
    missing = sorted(expected - found)
    if missing:
        raise UserError(f"{folder}: no tensor {missing[0]} ({len(missing)} missing); fetch the model again")
    extra = sorted(name for name in found - expected if not name.endswith("rotary_emb.inv_freq"))
    extra = [name for name in extra if name != OTHER["head"].tensor]  # of a tied model: see _check_tied
    if extra:
        raise UserError(
            f"{folder}: tensor {extra[0]} has no place in the model of config.json: either its numbers are another "
            "model's, or it is not of plain Llama shape"
        )


def _check_tied(head: Tensor, embed: Tensor) -> None:
    """UserError where a stored head is not the embedding that config.json ties it to."""
    same = head.shape == embed.shape
    step = max(1, CHUNK_BYTES // (embed.nbytes // embed.shape[0]))
    for at in range(0, embed.shape[0] if same else 0, step):
        count = min(step, embed.shape[0] - at)
        same = same and np.array_equal(head.rows(at, count), embed.rows(at, count))
    if not same:
        raise UserError(
            f"{head.path}: config.json ties {head.name} to the embedding, but its numbers are others; "
            "set tie_word_embeddings to false"
        )


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files that the folder should hold."""
    if not (folder / INDEX).is_file():
        return [folder / WHOLE]
    index = read_json(folder / INDEX, FETCH)
    files = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(files, dict) or not all(_is_file_name(name) for name in files.values()):
        raise UserError(f"{folder / INDEX}: its weight_map from tensors to files is missing; fetch it again")
    return [folder / name for name in sorted(set(files.values()))]


def _is_file_name(name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name


def _open(path: Path) -> list[Tensor]:
    if not path.is_file():
        remedy = FETCH
        if any(path.parent.glob("model-*.safetensors")) and path.name == WHOLE:
            remedy = f"there are shards: fetch {INDEX}, which lists them"
        elif any(path.parent.glob("*.bin")):
            remedy = "*.bin is not read, since it can run code: convert it to safetensors"
        raise UserError(f"{path} is missing; {remedy}")
    return list(open_tensors(path))


def _is_complete(folder: Path) -> bool:
    return (folder / "config.json").is_file() and all(file.is_file() for file in _weight_files(folder))


def _find_on_hub(name: str, patterns: list[str], complete: Callable[[Path], bool]) -> Path:
    """The local cache's folder of hub id `name` where it is complete, otherwise after a download of `patterns`."""
    from huggingface_hub import snapshot_download  # only here: most runs load a folder
    from huggingface_hub.errors import HFValidationError, HTTPError, LocalEntryNotFoundError

    try:
        with suppress(LocalEntryNotFoundError):
            folder = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
            if complete(folder):
                return folder
        _require_disk(name, patterns)
        return Path(snapshot_download(name, allow_patterns=patterns))
    except HFValidationError as error:
        raise UserError(NO_MODEL.format(name)) from error
    except (HTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{name}: no such folder, not in the local cache of the hub, and the hub gave: {reason}; give a folder"
        ) from error


def _require_disk(name: str, patterns: list[str]) -> None:
    """UserError where the files of the hub's model that match `patterns` do not fit on the cache's disk."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils import filter_repo_objects

    files: Mapping[str, int] = {
        file.rfilename: file.size or 0
        for file in HfApi().model_info(name, files_metadata=True).siblings or ()
    }
    if WHOLE not in files and INDEX not in files and patterns is HUB_FILES:
        raise UserError(
            f"{name}: no {WHOLE} there; convert its weights to safetensors first, and give that folder"
        )
    needed = sum(files[file] for file in filter_repo_objects(files, allow_patterns=patterns))
    cache = Path(constants.HF_HUB_CACHE)
    at = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    free = shutil.disk_usage(at).free
    if needed > free:
        raise UserError(
            f"{name}: its files take {needed / 1e9:.1f} GB, but {at} has {free / 1e9:.1f} GB free; "
            "free some, or set HF_HOME to a larger disk"
        )
