"""Models in Hugging Face folders: against transformers' logits, there and back, on meshes, in little memory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import sentencepiece
from safetensors.numpy import load_file

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model import Model, hf, load_hf, save_hf
from dsm_jax.model.config import SMOKE, RopeScaling
from dsm_jax.model.params import init_params
from dsm_jax.tokenizer import load_tokenizer, train_sentencepiece
from tests.model.hf_cases import CASES, GQA, IDS, random_tensors, write_folder

GOLDENS = np.load(Path(__file__).parent / "goldens" / "logits.npz")  # by make_goldens.py


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_transformers(tmp_path, name):
    logits = load_hf(write_folder(tmp_path, CASES[name])).logits(IDS)
    assert GOLDENS[name].std() > 1  # the comparison has something to compare
    assert logits.dtype == np.float32 and logits.shape == GOLDENS[name].shape
    np.testing.assert_allclose(logits, GOLDENS[name], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "name, change",
    [
        ("llama", {"rms_eps": 1e-6}),
        ("llama", {"rope_theta": 10_000.0}),
        ("llama_linear", {"rope_scaling": RopeScaling()}),
        ("llama_llama3", {"rope_scaling": RopeScaling()}),
        ("llama_llama3", {"rope_scaling": RopeScaling("linear", 4.0)}),
    ],
)
def test_what_the_numbers_depend_on(tmp_path, name, change):
    """A decoder that left it out would be seen."""
    model = load_hf(write_folder(tmp_path, CASES[name]))
    logits = Model(replace(model.config, **change), model.params).logits(IDS)
    assert np.abs(logits - GOLDENS[name]).max() > 0.1


@pytest.mark.parametrize("name, part", [("qwen2", "bias"), ("qwen3", "q_norm"), ("qwen3", "k_norm")])
def test_every_bias_and_norm_counts(tmp_path, name, part):
    tensors = random_tensors(CASES[name])
    tensors |= {n: np.full_like(t, "norm" in part) for n, t in tensors.items() if part in n}
    logits = load_hf(write_folder(tmp_path, CASES[name], tensors)).logits(IDS)
    assert np.abs(logits - GOLDENS[name]).max() > 0.1


@pytest.mark.parametrize("name", CASES)
def test_every_mesh_gives_the_same_logits(tmp_path, name):
    folder = write_folder(tmp_path, CASES[name])
    many = load_hf(folder, parse_mesh(("data=2,fsdp=2,tensor=2",))).logits(IDS)  # 2 rows on 4 shards
    np.testing.assert_allclose(many, load_hf(folder).logits(IDS), rtol=0, atol=3e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_there_and_back_keeps_every_bit(tmp_path, name, dtype):
    tensors = {key: w.astype(ml_dtypes.bfloat16) for key, w in random_tensors(CASES[name]).items()}
    if dtype == "float32":
        tensors = random_tensors(CASES[name])
    model = load_hf(write_folder(tmp_path / "in", {**CASES[name], "torch_dtype": dtype}, tensors))
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(model.params)} == {dtype}
    save_hf(model, tmp_path / "out")
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert saved.keys() == tensors.keys()
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(saved[key].view(np.uint8), tensor.view(np.uint8), err_msg=key)
    assert load_hf(tmp_path / "out").config == model.config


@pytest.mark.parametrize("mesh", ["fsdp=8", "data=2,fsdp=2,tensor=2", "fsdp=4,tensor=2"])
def test_small_steps_load_the_same_numbers(tmp_path, monkeypatch, mesh):
    folder = write_folder(tmp_path)
    whole = load_hf(folder).params
    monkeypatch.setattr(hf, "CHUNK_BYTES", 1_000)
    stepped = load_hf(folder, parse_mesh((mesh,))).params
    jax.tree.map(np.testing.assert_array_equal, stepped, whole)


def test_ids_outside_the_vocabulary(tmp_path):
    model = load_hf(write_folder(tmp_path))
    for ids, wrong in (([[0, 96]], 96), ([[-1, 0]], -1)):
        with pytest.raises(UserError, match=f"token id {wrong} is outside the vocabulary of 96"):
            model.logits(np.array(ids))


def test_the_model_card(tmp_path):
    model = load_hf(write_folder(tmp_path / "in"))
    save_hf(model, tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert "# out" in card and "3 layers of width 64" in card
    (tmp_path / "out/README.md").write_text("mine")
    save_hf(model, tmp_path / "out")
    assert (tmp_path / "out/README.md").read_text() == "mine"


def test_a_model_of_ours_comes_back(tmp_path):
    config = replace(SMOKE, n_kv_heads=2)
    model = Model(config, init_params(config, 0, parse_mesh(("fsdp=2,tensor=2,data=2",))))
    save_hf(model, tmp_path / "a")
    save_hf(model, tmp_path / "b")
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()
    back = load_hf(tmp_path / "a")
    assert back.config == config and back.mesh == single_device_mesh()
    jax.tree.map(np.testing.assert_array_equal, back.params, model.params)


def test_a_large_model_is_saved_in_several_files(tmp_path, monkeypatch):
    model = load_hf(write_folder(tmp_path / "in"))
    monkeypatch.setattr(hf, "SHARD_BYTES", 50_000)
    save_hf(model, tmp_path / "out")
    files = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert all(path.stat().st_size < 60_000 for path in (tmp_path / "out").glob("*.safetensors"))
    jax.tree.map(np.testing.assert_array_equal, load_hf(tmp_path / "out").params, model.params)


def test_dtype_chooses_storage_and_compute(tmp_path):
    folder = write_folder(tmp_path / "hf", {**GQA, "torch_dtype": "bfloat16"})
    model = load_hf(folder, dtype="bfloat16")
    assert str(model.params["head"].dtype) == model.config.dtype == "bfloat16"
    model = load_hf(folder, dtype="float32")
    assert str(model.params["head"].dtype) == model.config.dtype == "float32"


def test_the_tokenizer_is_copied_and_its_special_tokens_named(tmp_path):
    text = ["one plus two is three, four plus five is nine"] * 20
    path = tmp_path / "tokenizer.model"
    ours = train_sentencepiece(text, path, vocab_size=300)
    model = load_hf(write_folder(tmp_path / "in", GQA | {"vocab_size": 320}))
    save_hf(model, tmp_path / "out", tokenizer=path)
    copied = load_tokenizer(tmp_path / "out")
    assert copied.encode(text[0]) == ours.encode(text[0])
    entries = json.loads((tmp_path / "out/config.json").read_text())
    assert (entries["bos_token_id"], entries["eos_token_id"]) == (ours.bos_id, ours.eos_id)


def test_another_model_takes_the_place_of_the_one_before(tmp_path, monkeypatch):
    """Whole or in shards, before and after: no file of the old one stays, and readers see the new."""
    first, second = (Model(SMOKE, init_params(SMOKE, seed, single_device_mesh())) for seed in (0, 1))
    for before, after in ((50_000, 10**9), (10**9, 50_000), (50_000, 90_000)):
        monkeypatch.setattr(hf, "SHARD_BYTES", before)
        save_hf(first, tmp_path)
        monkeypatch.setattr(hf, "SHARD_BYTES", after)
        save_hf(second, tmp_path)
        jax.tree.map(np.testing.assert_array_equal, load_hf(tmp_path).params, second.params)
        whole, shards = (tmp_path / "model.safetensors").exists(), len([*tmp_path.glob("model-*")])
        assert whole == (not shards) == (not (tmp_path / hf.INDEX).exists())


def test_another_tokenizer_takes_the_place_of_the_one_before(tmp_path):
    """Also where the new one has no JSON form, which would else be read first."""
    model = Model(SMOKE, init_params(SMOKE, 0, single_device_mesh()))
    train_sentencepiece(["one two three"] * 20, tmp_path / "a.model", vocab_size=290)
    save_hf(model, tmp_path / "out", tmp_path / "a.model")
    assert (tmp_path / "out/tokenizer.json").exists()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the quick brown fox"] * 20), model_prefix=str(tmp_path / "b"), vocab_size=20,
        model_type="unigram", minloglevel=2,
    )  # fmt: skip
    save_hf(model, tmp_path / "out", tmp_path / "b.model")
    wanted = load_tokenizer(tmp_path / "b.model").encode("the fox")
    assert load_tokenizer(tmp_path / "out").encode("the fox") == wanted
    save_hf(model, tmp_path / "out", tmp_path / "out")  # its own files
    assert load_tokenizer(tmp_path / "out").encode("the fox") == wanted


def test_a_mistake_leaves_the_folder_as_it_was(tmp_path):
    model = Model(SMOKE, init_params(SMOKE, 0, single_device_mesh()))
    save_hf(model, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    large = train_sentencepiece(["one two three"] * 20, tmp_path / "t.model", vocab_size=290)
    small = Model(config := replace(SMOKE, vocab_size=96), init_params(config, 0, single_device_mesh()))
    for wrong, tokenizer, said in (
        (model, tmp_path / "nowhere", "no such tokenizer file"),
        (small, tmp_path / "t.model", f"has {large.vocab_size} ids, the model 96"),
    ):
        with pytest.raises(UserError, match=said):
            save_hf(wrong, tmp_path / "out", tokenizer)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    for place in (tmp_path / "out/config.json", tmp_path / "out/config.json/deeper", "/proc/no"):
        with pytest.raises(UserError, match="the model cannot be written there"):
            save_hf(model, place)


@pytest.mark.parametrize(
    "ids", [[1, 2], [[1.5]], [[1], [2, 3]], np.zeros((0, 4), int), np.zeros((2, 0), int), [["a"]]], ids=repr
)
def test_ids_of_another_form(ids):
    model = Model(SMOKE, init_params(SMOKE, 0, single_device_mesh()))
    with pytest.raises(UserError, match="token ids must be whole numbers in rows of one length"):
        model.logits(ids)
    assert len(repr(model)) < 1000 and model in {model}
