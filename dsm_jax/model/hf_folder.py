"""A Hugging Face model folder on disk: found by path or hub id, its files and tensors checked before any is read.

Left out on purpose: pickled weights (*.bin: loading one runs code from the file), quantised weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import jax
import numpy as np

from dsm_jax.errors import UserError
from dsm_jax.hub import HUB_ID, hub_folder
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
HUB_FILES = ["config.json", "model*.safetensors", INDEX, *TOKENIZER_FILES, "reward_model.json"]
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
        raise UserError(f"{name}: no such folder, and not a hub id of the form owner/name")
    check = partial(_require_safetensors, name)
    return hub_folder(name, HUB_FILES, kind="model", is_complete=_is_complete, check=check)


def find_config(dir_or_hub_id: str | Path) -> ModelConfig:
    """The shape of a folder's or a hub id's model, from its config.json; nothing else is downloaded."""
    if Path(dir_or_hub_id).is_dir() or not HUB_ID.fullmatch(str(dir_or_hub_id)):
        return read_config(find_folder(dir_or_hub_id))
    name, file = str(dir_or_hub_id), "config.json"
    return read_config(hub_folder(name, [file], kind="model", is_complete=lambda at: (at / file).is_file()))


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


def _require_safetensors(name: str, sizes: Mapping[str, int]) -> None:
    if WHOLE not in sizes and INDEX not in sizes:
        raise UserError(
            f"{name}: no {WHOLE} there; convert its weights to safetensors first, and give that folder"
        )
