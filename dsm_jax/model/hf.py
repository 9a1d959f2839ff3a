"""Hugging Face model folders in and out: safetensors and config.json <-> our parameter tree and its ModelConfig.

Read: every Llama-shaped family of hf_config.py. A tensor goes from the file to its devices a few megabytes at a
time. Of several processes all take part, and the first one writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from math import prod
from pathlib import Path
from shutil import copyfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from safetensors import SafetensorError
from safetensors.numpy import save_file

from dsm_jax.errors import UserError
from dsm_jax.memory import available_memory
from dsm_jax.mesh import batch_shards, single_device_mesh
from dsm_jax.model.config import ModelConfig, param_count
from dsm_jax.model.decoder import Params, bind
from dsm_jax.model.hf_config import config_to_hf
from dsm_jax.model.hf_folder import INDEX, TOKENIZER_FILES, WHOLE, find_config, find_folder, find_tensors
from dsm_jax.model.hf_layout import LAYER, Layout, layout_of, leaf_name, tensor_names
from dsm_jax.model.lora import merged, plain
from dsm_jax.model.params import check_mesh, param_shapes, param_shardings
from dsm_jax.model.tensor_file import CHUNK_BYTES, Tensor
from dsm_jax.processes import on_first_process
from dsm_jax.run import atomic, write_json, write_text
from dsm_jax.tokenizer import load_tokenizer
from dsm_jax.tokenizer_json import write_tokenizer_json

SHARD_BYTES = 5 * 10**9  # a larger model is saved in several files, as Hugging Face does
CARD = """---
library_name: transformers
tags: [{family}, mathematics]
---

# {name}

A decoder of {count:,} parameters in {dtype}, written by dsm_jax: {layers} layers of width {width}, {heads} heads
({kv_heads} of keys and values), a vocabulary of {vocab} and sequences of up to {length} tokens.

Load it with `dsm_jax.model.load_hf(folder)` or with transformers' `AutoModelForCausalLM.from_pretrained(folder)`.
"""


@dataclass(frozen=True, eq=False)
class Model:
    """A decoder and its parameters, which lie on one mesh."""

    config: ModelConfig
    params: Params = field(repr=False)

    @property
    def mesh(self) -> Mesh:
        return self.params["embed"].sharding.mesh

    def logits(self, ids: jax.Array | np.ndarray) -> jax.Array:
        """Logits in fp32 [B, T, V] of token ids [B, T], each row a document of its own; on every device whole.

        Raises UserError for ids outside the vocabulary, or of another form.
        """
        try:
            ids = np.asarray(ids)
        except ValueError:  # rows of different lengths
            ids = np.empty(0)
        if ids.ndim != 2 or not ids.size or not np.issubdtype(ids.dtype, np.integer):
            raise UserError("logits: token ids must be whole numbers in rows of one length, [B, T]")
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.config.vocab_size:
            raise UserError(
                f"token id {low if low < 0 else high} is outside the vocabulary of {self.config.vocab_size}; "
                "is this the model's own tokenizer?"
            )
        rows = ids.shape[0]
        padding = -rows % batch_shards(self.mesh)
        with jax.set_mesh(self.mesh):
            padded = np.pad(ids.astype(np.int32), ((0, padding), (0, 0)))
            return _logits(self.config, self.params, padded)[:rows]


@partial(jax.jit, static_argnums=0, out_shardings=P())
def _logits(config: ModelConfig, params: Params, ids: jax.Array) -> jax.Array:
    decoder = bind(config, params)
    return decoder.logits(decoder.hidden(ids, jnp.ones_like(ids)))


def load_hf(dir_or_hub_id: str | Path, mesh: Mesh | None = None, dtype: str | None = None) -> Model:
    """A model from a folder, or from the hub by its id: the local cache first, then a download.

    mesh: where the parameters go; None is the first device alone. dtype: what they are stored and computed in,
    float32 or bfloat16; None keeps what the folder says. A few megabytes at a time pass through host memory.
    Raises UserError for what is missing, damaged, or not of Llama shape, and where disk or memory do not suffice.
    """
    config, mesh = find_config(dir_or_hub_id), mesh or single_device_mesh()
    config = replace(config, dtype=dtype) if dtype else config
    check_mesh(config, mesh)
    _require_memory(dir_or_hub_id, config, mesh)
    folder = find_folder(dir_or_hub_id)
    tensors = find_tensors(folder, config, any_dtype=dtype is not None)
    stored = jnp.dtype(dtype) if dtype else next(iter(tensors.values())).dtype  # all have the same

    def load(path: tuple, shape: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.Array:
        own = [tensors[name] for name in tensor_names(config, leaf_name(path))]
        return _load(leaf_name(path), own, shape.shape, stored, mesh, sharding.spec)

    return Model(config, jax.tree.map_with_path(load, param_shapes(config), param_shardings(config, mesh)))


def _require_memory(name: str | Path, config: ModelConfig, mesh: Mesh) -> None:
    """UserError, before a download, where the parameters in the compute dtype do not fit on a device."""
    dtype = jnp.dtype(config.dtype)
    leaves = jax.tree.leaves(param_shapes(config)), jax.tree.leaves(param_shardings(config, mesh))
    needed = sum(
        prod(place.shard_shape(leaf.shape)) * dtype.itemsize for leaf, place in zip(*leaves, strict=True)
    )
    here = available_memory(mesh)
    if here is not None and needed > here:
        smaller = "" if dtype == jnp.bfloat16 else ", or dtype bfloat16"
        raise UserError(
            f"{name}: {param_count(config):,} parameters in {dtype.name} need {needed / 1e6:,.1f} MB on each "
            f"of {mesh.size} devices, but there are {here / 1e6:,.1f} MB; give more devices{smaller}"
        )


def _load(
    name: str, tensors: list[Tensor], shape: tuple[int, ...], dtype: np.dtype, mesh: Mesh, spec: P
) -> jax.Array:
    """Our parameter `name` of this shape from its tensors, the first axis counting layers where it is a layer's.

    Goes through the first axis of the tensors in steps: each device gets its own rows of a step, and writes them
    into its part in place.
    """
    stacked, layout = name in LAYER, layout_of(name)
    split, parts = layout.split(shape[stacked:]), layout.split(tuple(spec)[stacked:])
    sharding = NamedSharding(mesh, spec)
    shards = mesh.shape[parts[0]] if parts[0] else 1
    own, row_bytes = split[0] // shards, tensors[0].nbytes // split[0]
    step = max(1, min(own, CHUNK_BYTES // max(1, row_bytes)))
    chunk = (shards * step, *split[1:])
    chunk_sharding = NamedSharding(mesh, P(*parts))
    with jax.set_mesh(mesh):
        whole = jax.jit(partial(jnp.zeros, shape, dtype), out_shardings=sharding)()
        write = _writer(layout, stacked, sharding, chunk_sharding)
        for layer, tensor in enumerate(tensors):
            for at in (min(at, own - step) for at in range(0, own, step)):
                read = partial(_read, tensor, split, own, step, at)
                whole = write(whole, jax.make_array_from_callback(chunk, chunk_sharding, read), layer, at)
                jax.block_until_ready(whole)  # else the chunks of a fast disk queue up in memory
    return whole


def _read(
    tensor: Tensor, split: tuple[int, ...], own: int, step: int, at: int, index: tuple[slice, ...]
) -> np.ndarray:
    """One device's piece of a step: rows `at` to `at + step` of its `own` rows, cut along the other axes."""
    shard = (index[0].start or 0) // step
    unit = tensor.shape[0] // split[0]
    rows = tensor.rows((shard * own + at) * unit, step * unit)
    return np.ascontiguousarray(rows.reshape(step, *split[1:])[:, *index[1:]])


@lru_cache
def _writer(
    layout: Layout, stacked: bool, sharding: NamedSharding, chunk_sharding: NamedSharding
) -> Callable[..., jax.Array]:
    """(parameter, chunk, layer, at) -> the parameter with the chunk written, in place."""

    def write(whole: jax.Array, chunk: jax.Array, layer: jax.Array, at: jax.Array) -> jax.Array:
        start: list[Any] = [0] * len(layout.axes)
        start[layout.axes[0]] = at
        chunk = chunk.transpose(layout.ours).astype(whole.dtype)
        if stacked:
            chunk, start = chunk[None], [layer, *start]
        return jax.lax.dynamic_update_slice(whole, chunk, start)

    local = jax.shard_map(
        write,
        in_specs=(sharding.spec, chunk_sharding.spec, P(), P()),
        out_specs=sharding.spec,
        check_vma=False,
    )
    return jax.jit(local, donate_argnums=0)


def save_hf(model: Model, dir: str | Path, tokenizer: str | Path | None = None) -> None:
    """Writes config.json and safetensors that load_hf and transformers read; the same model gives the same bytes.

    The parameters are stored in their own dtype, LoRA's updates merged into them. tokenizer: its file or folder; its
    files are copied, its special tokens named in config.json (without it they are null).
    README.md is the model card, kept where there is one. config.json comes last: a folder that has one is complete;
    weights that were there before are removed. Raises UserError where the folder cannot be written, or the tokenizer
    has more ids than the model.
    """
    try:
        _save(model, Path(dir), Path(tokenizer) if tokenizer is not None else None)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{dir}: the model cannot be written there: {error}") from error


def save_shape(
    config: ModelConfig,
    dir: str | Path,
    tokenizer: str | Path | None = None,
    dtype: str = "float32",
    *,
    as_it_is: bool = False,
) -> None:
    """Writes what save_hf does but the weights: config.json, last, and the tokenizer's files.

    as_it_is: a sentencepiece model gets no tokenizer.json beside it, which transformers would want.
    """
    entries = _entries(config, tokenizer, dtype)
    Path(dir).mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        _copy_tokenizer(Path(tokenizer), Path(dir), as_it_is)
    write_json(Path(dir) / "config.json", entries)


def _entries(config: ModelConfig, tokenizer: str | Path | None, dtype: str) -> dict[str, Any]:
    """Of config.json."""
    entries = config_to_hf(config, dtype)
    loaded = load_tokenizer(tokenizer, rows=config.vocab_size) if tokenizer is not None else None
    for token in ("bos", "eos", "pad"):  # null: else a reader would fill in its family's
        entries[f"{token}_token_id"] = getattr(loaded, f"{token}_id", None)
    return entries


def _save(model: Model, folder: Path, tokenizer: Path | None) -> None:
    model = Model(plain(model.config), merged(model.config, model.params, model.params, model.mesh))
    on_first_process(partial(_begin, model.config, folder, tokenizer))
    shards = _shards(model)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else WHOLE
        tensors = {name: _to_hf(*place) for name, place in shard.items()}  # all processes give their parts
        on_first_process(partial(_write_tensors, tensors, folder / file))
        weight_map |= dict.fromkeys(shard, file)
    on_first_process(partial(_complete, model, folder, tokenizer, weight_map))


def _begin(config: ModelConfig, folder: Path, tokenizer: Path | None) -> None:
    """What cannot be told is refused before anything is touched; then the folder counts as incomplete."""
    _entries(config, tokenizer, "float32")
    (folder / "config.json").unlink(missing_ok=True)


def _write_tensors(tensors: dict[str, np.ndarray], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic(file) as tmp:
        save_file(tensors, tmp, metadata={"format": "pt"})
        tmp.chmod(0o644)  # the library gives it to its owner alone


def _complete(model: Model, folder: Path, tokenizer: Path | None, weight_map: dict[str, str]) -> None:
    """What goes with the weights, config.json last."""
    sharded = WHOLE not in weight_map.values()
    if sharded:
        total = sum(leaf.nbytes for leaf in jax.tree.leaves(model.params))
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    if not (folder / "README.md").exists():
        write_text(folder / "README.md", _card(model, folder.resolve().name))
    for stale in {folder / INDEX, folder / WHOLE, *folder.glob("model-*-of-*.safetensors")}:
        if stale.name not in weight_map.values() and not (stale.name == INDEX and sharded):
            stale.unlink(missing_ok=True)  # of a model that was here before
    save_shape(model.config, folder, tokenizer, str(model.params["embed"].dtype))


def _to_hf(name: str, parameter: jax.Array, layer: int | None) -> np.ndarray:
    """The tensor of our parameter (of one layer), as the folder stores it."""
    layout = layout_of(name)
    own = parameter if layer is None else parameter[layer]
    weight = np.asarray(own if own.is_fully_addressable else process_allgather(own, tiled=True))
    return np.ascontiguousarray(weight.transpose(layout.axes)).reshape(layout.stored(weight.shape))


def _card(model: Model, name: str) -> str:
    config = model.config
    entries = config_to_hf(config, str(model.params["embed"].dtype))
    return CARD.format(
        name=name,
        family=entries["model_type"],
        count=param_count(config),
        dtype=entries["torch_dtype"],
        layers=config.n_layers,
        width=config.d_model,
        heads=config.n_heads,
        kv_heads=config.n_kv_heads,
        vocab=config.vocab_size,
        length=config.max_seq_len,
    )


def _shards(model: Model) -> list[dict[str, tuple[str, jax.Array, int | None]]]:
    """Tensor name -> (our name, parameter, layer), for each file of at most SHARD_BYTES."""
    shards: list[dict[str, tuple[str, jax.Array, int | None]]] = [{}]
    room = SHARD_BYTES
    for path, leaf in jax.tree.leaves_with_path(model.params):
        name = leaf_name(path)
        names = tensor_names(model.config, name)
        for layer, tensor in enumerate(names):
            size = leaf.nbytes // len(names)
            if size > room and shards[-1]:
                shards.append({})
                room = SHARD_BYTES
            shards[-1][tensor] = (name, leaf, layer if name in LAYER else None)
            room -= size
    return shards


def _copy_tokenizer(tokenizer: Path, folder: Path, as_it_is: bool) -> None:
    """The tokenizer's files; those of one that was there before go."""
    source = tokenizer if tokenizer.is_dir() else tokenizer.parent
    if tokenizer.suffix == ".model":
        files = {tokenizer: "tokenizer.model"}
    else:
        files = {source / name: name for name in TOKENIZER_FILES if (source / name).is_file()}
    for file, name in files.items():
        with atomic(folder / name) as tmp:
            copyfile(file, tmp)
    for stale in {*TOKENIZER_FILES} - {*files.values()}:
        (folder / stale).unlink(missing_ok=True)
    if set(files.values()) == {"tokenizer.model"} and not as_it_is:
        write_tokenizer_json(folder / "tokenizer.model", folder)
