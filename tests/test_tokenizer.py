"""Round trips, special tokens and reproducible training of dsm_jax.tokenizer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from dsm_jax.errors import UserError
from dsm_jax.tokenizer import TextStream, load_tokenizer, train_sentencepiece
from dsm_jax.tokenizer_json import write_tokenizer_json

SYMBOLS = ("+", "-", "*", "/", "=", "User: ", "\\boxed{", "}")
TEXTS = [
    "Let x be a number. Then x + 12 = 30, so x = \\boxed{18}.\n\nThe sum of 7 and 8 is 15.\n",
    "    def add(a, b):\n\treturn a + b  # 1 + 1 = 2\n",
    "小明有3个苹果，又买了5个，一共有8个。 </s> <0x0A> <s>\x00 ▁",
] * 5
TRICKY = [
    "",
    " ",
    "  x\n\n\ty  ",
    "▁a ▁▁b▁",
    "\r\n\x00\ufeff\ufffd\u3000",
    "</s><s><pad><unk><0x0A>",
    "a" * 9000,
]
TRICKY += ["<｜begin▁of▁sentence｜>你好<｜end▁of▁sentence｜>", "<|endoftext|><｜User｜>"]


def train(path, **options):
    return train_sentencepiece(TEXTS, path, vocab_size=360, symbols=SYMBOLS, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("spm") / "t.model")


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory):

    folder = tmp_path_factory.mktemp("hub")
    alphabet = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    model = tokenizers.Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    model.add_special_tokens(["<｜begin▁of▁sentence｜>"])
    model.add_tokens(["<｜end▁of▁sentence｜>"])
    model.save(str(folder / "tokenizer.json"))
    config = {
        "bos_token": {"content": "<｜begin▁of▁sentence｜>"},
        "eos_token": "<｜end▁of▁sentence｜>",
        "pad_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(params=["sentencepiece", "json"])
def tokenizer(request, trained, hub_folder):
    return trained if request.param == "sentencepiece" else load_tokenizer(hub_folder)


@pytest.mark.parametrize("text", TRICKY)
def test_round_trip_without_special_tokens(tokenizer, text):
    ids = tokenizer.encode(text)
    assert not {tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id} & set(ids)
    assert all(0 <= i < tokenizer.vocab_size for i in ids)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([tokenizer.bos_id, *ids, tokenizer.eos_id, tokenizer.pad_id]) == text


@given(st.text(st.sampled_from("a 1+\n三😀\ufffd") | st.characters(exclude_categories=["Cs"])), st.data())
def test_the_bytes_of_tokens(trained, hub_folder, text, data):
    for tokenizer in (trained, load_tokenizer(hub_folder)):
        ids = tokenizer.encode(text)
        assert b"".join(tokenizer.spelled(ids)) == text.encode()
        cut = ids[: data.draw(st.integers(0, len(ids)))]
        assert (
            b"".join(tokenizer.spelled(cut)).decode(errors="ignore") == tokenizer.decode(cut).rstrip("\ufffd")
            or "\ufffd" in text
        )
        dropped = [tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.vocab_size, -1, 2**40]
        assert tokenizer.spelled(dropped) == [b""] * len(dropped)


@given(st.text(), st.text(alphabet="▁ \n\t</s>1小\\boxed{}"))
def test_round_trip_of_any_text(trained, text, odd):
    assert trained.decode(trained.encode(text)) == text
    assert trained.decode(trained.encode(odd)) == odd


def test_lone_surrogate_is_read_as_question_mark(tokenizer):
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a?b"


def test_digits_symbols_and_newline_are_pieces(trained):
    assert len(trained.encode("2024")) == 4
    assert len(trained.encode("+")) == len(trained.encode("\\boxed{")) == len(trained.encode("\n")) == 1
    assert len(trained.encode("\n\n")) == 2
    assert trained.vocab_size == 360
    assert len({trained.bos_id, trained.eos_id, trained.pad_id}) == 3


def test_training_is_reproducible(tmp_path, trained):
    train(tmp_path / "a.model")
    code = "import sys, pathlib, tests.test_tokenizer as t; t.train(pathlib.Path(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "b.model")],
        check=True, cwd=Path(__file__).parents[1], env={**os.environ, "PYTHONHASHSEED": "12345"},
    )  # fmt: skip
    assert (tmp_path / "a.model").read_bytes() == (tmp_path / "b.model").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.model", "b.model"]
    assert load_tokenizer(tmp_path).encode("x = 5") == trained.encode("x = 5")


def test_many_characters_leave_room_for_merges(tmp_path):
    texts = ["".join(map(chr, range(0x4E00, 0x4E00 + 2000))), "the number of the numbers " * 200]
    tokenizer = train_sentencepiece(texts, tmp_path / "t.model", vocab_size=320)
    assert len(tokenizer.encode("the number")) <= 6
    assert tokenizer.decode(tokenizer.encode(texts[0])) == texts[0]


@settings(max_examples=300)
@given(text=st.text(st.sampled_from("ab xyz123\n三乘é😀<>/s_") | st.characters(exclude_categories=["Cs"])))
def test_a_sentencepiece_model_as_tokenizer_json(text, tmp_path_factory):
    """The same ids both ways, and the text back; a space mark alone is read as a space there."""
    folder = tmp_path_factory.getbasetemp() / "as_json"
    if not folder.exists():
        folder.mkdir()
        train(folder / "t.model")
        write_tokenizer_json(folder / "t.model", folder)
    json_form, text = load_tokenizer(folder / "tokenizer.json"), text.replace("▁", "")
    assert json_form.encode(text) == load_tokenizer(folder / "t.model").encode(text)
    assert json_form.decode(json_form.encode(text)) == text


def test_a_sentencepiece_model_of_another_kind_has_no_tokenizer_json(tmp_path):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the quick brown fox"] * 20), model_prefix=str(tmp_path / "u"), vocab_size=20,
        model_type="unigram", minloglevel=2,
    )  # fmt: skip
    write_tokenizer_json(tmp_path / "u.model", tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()


def test_names_are_found_without_a_config(hub_folder, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes((hub_folder / "tokenizer.json").read_bytes())
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (256, 257, 257)
    assert tokenizer.vocab_size == 258


UNIGRAM = models.Unigram(
    [("<unk>", 0.0), ("<s>", -1.0), ("</s>", -1.0), ("a", -1.0), ("<", -2.0), ("/s>", -2.0)], 0
)
WORDS = models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3, "<": 4, "/s>": 5}, "<unk>")


@pytest.mark.parametrize("model", [UNIGRAM, WORDS], ids=["unigram", "words"])
def test_special_tokens_of_the_vocabulary_are_text_too(tmp_path, model):
    """These models hold </s> among their own pieces, where the library's switch does not look."""
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (1, 2)
    assert tokenizer.encode("a </s> a") == [3, 4, 5, 3]
    assert tokenizer.encode("a ? a") == [3, 0, 3]  # unknown is no special token that a text could spell
    assert not {1, 2} & set(tokenizer.encode("<s>a</s></s><<s>/s>"))


@pytest.mark.parametrize("name", ["missing.model", "bad.model", "bad.json", "empty", "nobos/tokenizer.json"])
def test_bad_files_are_the_users_mistake(tmp_path, name):
    (tmp_path / "bad.model").write_bytes(b"not a model")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "empty").mkdir()
    (tmp_path / "nobos").mkdir()
    tokenizers.Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(tmp_path / "nobos/tokenizer.json"))
    with pytest.raises(UserError) as error:
        load_tokenizer(tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "texts, size", [([], 400), (["\n", ""], 400), (["abc def"], 280), (["abc def"], 4000)]
)
def test_untrainable_requests_are_the_users_mistake(tmp_path, texts, size):
    with pytest.raises(UserError) as error:
        train_sentencepiece(texts, tmp_path / "t.model", vocab_size=size)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_ids_outside_the_vocabulary_are_dropped(tokenizer):
    ids = tokenizer.encode("x = 5")
    outside = [tokenizer.vocab_size, 102_399, -1, 2**40]
    assert tokenizer.decode([*outside, *ids, *outside]) == "x = 5"


@given(st.text(st.sampled_from("a 1+\n三乘四é😀\ufffd▁"), max_size=30), st.integers(1, 5))
def test_a_stream_gives_whole_characters(trained, hub_folder, text, step):
    for tokenizer in (trained, load_tokenizer(hub_folder)):
        ids, stream = tokenizer.encode(text), TextStream(tokenizer)
        pieces = [stream.push(ids[at : at + step]) for at in range(0, len(ids), step)]
        assert "".join([*pieces, stream.finish()]) == tokenizer.decode(ids)
        if "\ufffd" not in text:
            assert not any("\ufffd" in piece for piece in pieces)


@given(st.lists(st.integers(0, 359), max_size=40))
def test_a_stream_of_any_ids_is_what_decoding_gives(trained, ids):
    stream = TextStream(trained)
    assert "".join([*(stream.push([i]) for i in ids), stream.finish()]) == trained.decode(ids)


def test_a_character_of_several_tokens_comes_with_the_last(hub_folder):
    tokenizer = load_tokenizer(hub_folder)
    stream, ids = TextStream(tokenizer), tokenizer.encode("三")
    assert len(ids) == 3 and [stream.push([i]) for i in ids] == ["", "", "三"]
    assert stream.push(ids[:2]) == "" and stream.finish() == "\ufffd"


@given(st.lists(st.integers(0, 359), max_size=40))
def test_broken_bytes_are_decoded_alike_by_both_forms(trained, tmp_path_factory, ids):
    """The library's decoder loses a whole run of byte tokens for one that is no UTF-8."""
    folder = tmp_path_factory.getbasetemp() / "as_json_2"
    if not folder.exists():
        folder.mkdir()
        train(folder / "t.model")
        write_tokenizer_json(folder / "t.model", folder)
    json_form = load_tokenizer(folder / "tokenizer.json")
    both = [*trained.encode("三乘"), *ids, *trained.encode("😀三")[:-1], *ids]
    assert json_form.decode(both) == trained.decode(both)
