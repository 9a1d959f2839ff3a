"""Hugging Face model folders: safetensors and config.json <-> our parameter tree and its ModelConfig.

Only the Llama shape is read (DeepSeekMath, DeepSeek LLM, Llama). Left out on purpose: pickled weights (*.bin:
loading one runs code from the file), quantised weights, saving from several processes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from shutil import copyfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dsm_jax.errors import UserError
from dsm_jax.mesh import batch_shards, single_device_mesh
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params, bind, param_shapes, param_shardings
from dsm_jax.model.hf_config import config_from_hf, config_to_hf
from dsm_jax.run import atomic, read_json, write_json
from dsm_jax.tokenizer import load_tokenizer

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9  # a larger model is saved in several files, as Hugging Face does
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model")
HUB_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", *TOKENIZER_FILES]
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
NO_MODEL = "{}: no such folder, and not a hub id of the form owner/name"

# our name of a layer's parameter -> its tensor in the folder
LAYER_TENSORS = {
    "attention_norm": "input_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
OTHER_TENSORS = {
    "embed": "model.embed_tokens.weight",
    "final_norm": "model.norm.weight",
    "head": "lm_head.weight",
}


@dataclass(frozen=True)
class Model:
    """A decoder and its parameters, which lie on one mesh."""

    config: ModelConfig
    params: Params

    @property
    def mesh(self) -> Mesh:
        return self.params["embed"].sharding.mesh

    def logits(self, ids: jax.Array | np.ndarray) -> jax.Array:
        """Logits in fp32 [B, T, V] of token ids [B, T], each row a document of its own; on every device whole."""
        rows = ids.shape[0]
        padding = -rows % batch_shards(self.mesh)
        with jax.set_mesh(self.mesh):
            ids = jnp.pad(jnp.asarray(ids, jnp.int32), ((0, padding), (0, 0)))
            return _logits(self.config, self.params, ids)[:rows]


@partial(jax.jit, static_argnums=0, out_shardings=P())
def _logits(config: ModelConfig, params: Params, ids: jax.Array) -> jax.Array:
    decoder = bind(config, params)
    return decoder.logits(decoder.hidden(ids, jnp.ones_like(ids)))


def load_hf(dir_or_hub_id: str | Path, mesh: Mesh | None = None, dtype: str | None = None) -> Model:
    """A model from a folder, or from the hub by its id: the local cache first, then a download.

    mesh: where the parameters go; None is the first device alone. dtype: what they are stored and computed in,
    float32 or bfloat16; None keeps what the folder says. One weight at a time passes through host memory.
    Raises UserError for what is missing, damaged, or not of Llama shape.
    """
    folder = find_folder(dir_or_hub_id)
    config = _read_config(folder)
    config = replace(config, dtype=dtype) if dtype else config
    shardings = param_shardings(config, mesh or single_device_mesh())
    with ExitStack() as stack:
        tensors = _open_tensors(folder, stack)
        _check_names(folder, config, set(tensors))

        def load(path: tuple, shape: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.Array:
            names = _tensor_names(config, _name(path))
            return jax.device_put(_read(folder, tensors, names, _name(path), shape.shape, dtype), sharding)

        params = jax.tree.map_with_path(load, param_shapes(config), shardings)
    return Model(config, params)


def find_folder(dir_or_hub_id: str | Path) -> Path:
    """The folder itself, or that of a hub id in the local cache, downloaded where it is not complete there."""
    if Path(dir_or_hub_id).is_dir():
        return Path(dir_or_hub_id)
    name = str(dir_or_hub_id)
    if not HUB_ID.fullmatch(name):
        raise UserError(NO_MODEL.format(name))
    return _find_on_hub(name, HUB_FILES, _is_complete)


def find_config(dir_or_hub_id: str | Path) -> ModelConfig:
    """The shape of a folder's or a hub id's model, from its config.json; nothing else is downloaded."""
    if Path(dir_or_hub_id).is_dir() or not HUB_ID.fullmatch(str(dir_or_hub_id)):
        return _read_config(find_folder(dir_or_hub_id))
    folder = _find_on_hub(str(dir_or_hub_id), ["config.json"], lambda at: (at / "config.json").is_file())
    return _read_config(folder)


def _read_config(folder: Path) -> ModelConfig:
    return config_from_hf(read_json(folder / "config.json"), folder / "config.json")


def _is_complete(folder: Path) -> bool:
    return (folder / "config.json").is_file() and all(file.is_file() for file in _weight_files(folder))


def _find_on_hub(name: str, patterns: list[str], complete: Callable[[Path], bool]) -> Path:
    """The local cache's folder of hub id `name` where it is complete, otherwise after a download of `patterns`."""
    from huggingface_hub import snapshot_download  # only here: most runs load a folder
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        with suppress(LocalEntryNotFoundError):
            folder = Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
            if complete(folder):
                return folder
        return Path(snapshot_download(name, allow_patterns=patterns))
    except HFValidationError as error:
        raise UserError(NO_MODEL.format(name)) from error
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"{name}: not in the local cache, and the hub gave: {reason}; give a folder"
        ) from error


def save_hf(model: Model, dir: str | Path, tokenizer: str | Path | None = None) -> None:
    """Writes config.json and safetensors that load_hf and transformers read; the same model gives the same bytes.

    The parameters are stored in their own dtype. tokenizer: its file or folder; its files are copied, its special
    tokens named in config.json. config.json comes last: a folder that has one is complete.
    """
    folder = Path(dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").unlink(missing_ok=True)
    entries = config_to_hf(model.config, str(model.params["embed"].dtype))
    if tokenizer is not None:
        entries |= _copy_tokenizer(Path(tokenizer), folder)
    shards = _shards(model)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else WHOLE
        with atomic(folder / file) as tmp:
            save_file({name: _to_hf(*place) for name, place in shard.items()}, tmp, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        total = sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    write_json(folder / "config.json", entries)


# Names and layouts: a linear map is stored [outputs, inputs] there, [*inputs, *outputs] here.


def _name(path: tuple) -> str:
    return path[-1].key


def _tensor_names(config: ModelConfig, name: str) -> list[str]:
    """The tensors of one of our parameters: one, or one for each layer."""
    if name in OTHER_TENSORS:
        return [OTHER_TENSORS[name]]
    return [f"model.layers.{layer}.{LAYER_TENSORS[name]}.weight" for layer in range(config.n_layers)]


def _hf_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of the tensor in the folder for our parameter (of one layer) of this shape."""
    if name == "embed" or len(shape) == 1:
        return shape
    inputs = prod(shape[:-1]) if name == "o" else shape[0]
    return prod(shape) // inputs, inputs


def _to_hf(name: str, stacked: jax.Array, layer: int | None) -> np.ndarray:
    weight = np.asarray(stacked if layer is None else stacked[layer])
    if name == "embed":
        return weight
    return np.ascontiguousarray(weight.reshape(_hf_shape(name, weight.shape)[::-1]).T)


def _read(
    folder: Path,
    tensors: Mapping[str, Any],
    names: list[str],
    name: str,
    shape: tuple[int, ...],
    dtype: str | None,
) -> np.ndarray:
    """Our parameter of this shape, from its tensors; the first axis counts layers where there are several."""
    stacked = name in LAYER_TENSORS
    expected = _hf_shape(name, shape[1:] if stacked else shape)
    weight: np.ndarray | None = None
    for layer, tensor_name in enumerate(names):
        tensor = tensors[tensor_name].get_tensor(tensor_name)
        if tensor.shape != expected:
            raise UserError(
                f"{folder}: {tensor_name} has shape {tensor.shape}, config.json asks for {expected}; "
                "the two do not belong together"
            )
        if weight is None:
            weight = np.empty(shape, jnp.dtype(dtype) if dtype else tensor.dtype)
        place = weight[layer] if stacked else weight
        place[...] = (tensor if name == "embed" else tensor.T).reshape(place.shape)
    assert weight is not None  # a model has at least one layer
    return weight


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files that the folder should hold."""
    if not (folder / INDEX).is_file():
        return [folder / WHOLE]
    index = read_json(folder / INDEX)
    files = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise UserError(f"{folder / INDEX}: its weight_map from tensors to files is missing; fetch it again")
    return [folder / name for name in sorted(set(files.values()))]


def _open_tensors(folder: Path, stack: ExitStack) -> dict[str, Any]:
    """Tensor name -> the open file that holds it."""
    tensors: dict[str, Any] = {}
    for path in _weight_files(folder):
        if not path.is_file():
            pickled = any(folder.glob("*.bin"))
            hint = "; *.bin is not read, since it can run code: convert it to safetensors" if pickled else ""
            raise UserError(f"{path} is missing{hint}")
        try:
            file = stack.enter_context(safe_open(path, framework="numpy"))
        except SafetensorError as error:
            raise UserError(f"{path} is damaged ({error}); fetch it again") from error
        tensors |= dict.fromkeys(file.keys(), file)
    return tensors


def _check_names(folder: Path, config: ModelConfig, found: set[str]) -> None:
    """Every parameter has its tensors, and no tensor is left over that would change the result."""
    ours = [*LAYER_TENSORS, *(name for name in OTHER_TENSORS if name != "head" or not config.tie_embeddings)]
    expected = {tensor for name in ours for tensor in _tensor_names(config, name)}
    missing = sorted(expected - found)
    if missing:
        raise UserError(f"{folder}: no tensor {missing[0]} ({len(missing)} missing); fetch the model again")
    extra = sorted(name for name in found - expected if not name.endswith("rotary_emb.inv_freq"))
    extra = [name for name in extra if name != OTHER_TENSORS["head"]]  # a tied one is the embedding again
    if extra:
        raise UserError(f"{folder}: tensor {extra[0]} is not supported; take a model of plain Llama shape")


def _shards(model: Model) -> list[dict[str, tuple[str, jax.Array, int | None]]]:
    """Tensor name -> (our name, parameter, layer), for each file of at most SHARD_BYTES."""
    shards: list[dict[str, tuple[str, jax.Array, int | None]]] = [{}]
    room = SHARD_BYTES
    for path, leaf in jax.tree.leaves_with_path(model.params):
        name = _name(path)
        names = _tensor_names(model.config, name)
        for layer, tensor in enumerate(names):
            size = leaf.nbytes // len(names)
            if size > room and shards[-1]:
                shards.append({})
                room = SHARD_BYTES
            shards[-1][tensor] = (name, leaf, layer if name in LAYER_TENSORS else None)
            room -= size
    return shards


def _copy_tokenizer(tokenizer: Path, folder: Path) -> dict[str, int]:
    """Copies the tokenizer's files; returns its special tokens as config.json names them."""
    loaded = load_tokenizer(tokenizer)
    source = tokenizer if tokenizer.is_dir() else tokenizer.parent
    if tokenizer.suffix == ".model":
        files = {tokenizer: "tokenizer.model"}
    else:
        files = {source / name: name for name in TOKENIZER_FILES if (source / name).is_file()}
    for file, name in files.items():
        with atomic(folder / name) as tmp:
            copyfile(file, tmp)
    return {"bos_token_id": loaded.bos_id, "eos_token_id": loaded.eos_id, "pad_token_id": loaded.pad_id}
