"""StopText: the same stop and the same text however the tokens come, from every kind of tokenizer."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, trainers

from dsm_jax.sample.stops import StopText
from dsm_jax.tokenizer import Tokenizer, load_tokenizer, train_sentencepiece
from dsm_jax.tokenizer_json import write_tokenizer_json

TEXTS = [
    "Let x be a number. Then x + 12 = 30, so x = \\boxed{18}.\n\nUser: the sum of 7 and 8 is 15.\n",
    "```python\nprint(1 + 1)\n```\n```output\n2\n```\n",
    "小明有3个苹果，又买了5个，一共有8个。",
] * 5
KINDS = ("sentencepiece", "sentencepiece as JSON", "byte-level JSON")
# 三乘😀é are spelled in bytes by the first two; in the last one a token may hold the end of one and the begin of another.
LETTERS = st.sampled_from("ab` \n小明三乘😀é\ufffdo") | st.sampled_from(
    ["```output", "User:", "三乘", "小明", "aa"]
)
TEXT = st.lists(LETTERS, max_size=30).map("".join)
STOPS = st.lists(
    st.sampled_from(["```output", "``", "User:", "三", "乘三", "明小", "😀", "é\n", "aa", "aab", "\n\n"]),
    max_size=3,
)
CHUNKS = st.lists(st.integers(1, 7), min_size=1, max_size=5)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory) -> dict[str, Tokenizer]:
    folder = tmp_path_factory.mktemp("tokenizers")
    own = train_sentencepiece(TEXTS, folder / "t.model", vocab_size=350)
    write_tokenizer_json(folder / "t.model", folder)
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"], show_progress=False
    )
    made.train_from_iterator([*TEXTS, "三乘三乘😀é😀é" * 9], trainer)
    (folder / "bytes").mkdir()
    made.save(str(folder / "bytes/tokenizer.json"))
    (folder / "bytes/tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    return dict(
        zip(
            KINDS,
            (own, load_tokenizer(folder / "tokenizer.json"), load_tokenizer(folder / "bytes")),
            strict=True,
        )
    )


def chunked(ids: Sequence[int], sizes: Sequence[int]) -> list[Sequence[int]]:
    ends = list(itertools.takewhile(lambda end: end < len(ids), itertools.accumulate(itertools.cycle(sizes))))
    return [ids[at:end] for at, end in zip([0, *ends], [*ends, len(ids)], strict=True)] if ids else []


def follow(stops: StopText, ids: Sequence[int], sizes: Sequence[int]) -> tuple[int | None, list[str]]:
    """Tokens up to the stop, and what was taken on the way."""
    done, taken = 0, []
    for chunk in chunked(ids, sizes):
        count = stops.push(chunk)
        taken.append(stops.take())
        if count is not None:
            return done + count, [*taken, stops.finish()]
        done += len(chunk)
    return None, [*taken, stops.finish()]


def expected(tokenizer: Tokenizer, ids: Sequence[int], stop: Sequence[str]) -> tuple[int | None, str, str]:
    """Tokens up to the stop, the text before it, the stop: every beginning decoded on its own."""
    for count in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:count])
        for _ in range(3):
            text = text.removesuffix("\ufffd")
        found = [(text.find(one), -len(one), one) for one in stop if one in text]
        if found:
            at, _, one = min(found)
            return count, text[:at], one
    return None, tokenizer.decode(ids), ""


def check(tokenizer: Tokenizer, ids: Sequence[int], stop: Sequence[str], sizes: Sequence[int]) -> None:
    stops = StopText(tokenizer, stop)
    count, taken = follow(stops, ids, sizes)
    assert (count, stops.text, stops.stopped) == expected(tokenizer, ids, stop)
    assert "".join(taken) == stops.text and stops.with_stop == stops.text + stops.stopped
    assert stops.take() == stops.finish() == ""


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=200)
@given(text=TEXT, stop=STOPS, sizes=CHUNKS)
def test_any_text_in_any_chunks(kinds, kind, text, stop, sizes):
    tokenizer = kinds[kind]
    ids = tokenizer.encode(text)
    check(tokenizer, ids, stop, sizes)
    stops = StopText(tokenizer, stop[:1])
    follow(stops, ids, sizes)
    assert stops.text == (text.split(stop[0])[0] if stop else text)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=200)
@given(data=st.data(), stop=STOPS, sizes=CHUNKS)
def test_any_tokens_in_any_chunks(kinds, kind, data, stop, sizes):
    """A model writes what it likes: halves of characters, special tokens, ids that the tokenizer does not have."""
    tokenizer = kinds[kind]
    some = [*tokenizer.encode("三乘😀aab"), 0, 2, 9999]
    ids = data.draw(st.lists(st.sampled_from(some) | st.integers(0, tokenizer.vocab_size), max_size=120))
    check(tokenizer, ids, stop, sizes)


@pytest.mark.parametrize("kind", KINDS)
def test_long_rows_lose_nothing(kinds, kind):
    """A stream forgets what it does not need; spaces, broken bytes and long runs of bytes are where that could go wrong."""
    tokenizer = kinds[kind]
    broken = tokenizer.encode("三")[:1]
    for part in (
        tokenizer.encode(" "),
        broken,
        tokenizer.encode("😀三é"),
        tokenizer.encode("x  小 "),
        [9999],
    ):
        ids = [*tokenizer.encode("So "), *part * 100, *tokenizer.encode("三 end"), *part * 3]
        for sizes in ([1], [16], [5, 90]):
            check(tokenizer, ids, [" end", "never"], sizes)


def test_spaces_that_a_tokenizer_strips_at_the_begin_are_kept_within(tmp_path):
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_prefix=str(tmp_path / "t"), vocab_size=350, model_type="bpe",
        byte_fallback=True, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    tokenizer = load_tokenizer(tmp_path / "t.model")
    space, word = tokenizer._model.piece_to_id("▁"), tokenizer.encode("sum")
    assert tokenizer.decode([space, *word]) == "sum"  # it does strip
    for count in (1, 20, 200):
        check(tokenizer, [space, *word, *[space] * count, *word], ["sum  sums"], [1])
        check(tokenizer, [space, *word, *[space] * count, *word], ["summ"], [16])


@pytest.mark.parametrize("kind", KINDS)
def test_the_token_within_a_chunk(kinds, kind):
    tokenizer = kinds[kind]
    before, stop, behind = (
        tokenizer.encode("So 三乘 "),
        tokenizer.encode("```output"),
        tokenizer.encode("\n4"),
    )
    stops = StopText(tokenizer, ["```output"])
    assert stops.push([*before, *stop, *behind]) == len(before) + len(stop)
    assert (stops.text, stops.stopped, stops.with_stop) == ("So 三乘 ", "```output", "So 三乘 ```output")
    assert stops.push(behind) == 0 and stops.take() == "So 三乘 " and stops.finish() == ""


def test_which_of_several(kinds):
    tokenizer = kinds["sentencepiece"]
    for stop, stopped, text in (
        (["8", "18}"], "8", "= \\boxed{1"),  # is there first, though the other one began before it
        (["1", "18"], "1", "= \\boxed{"),
        (["xed{", "\\boxed{"], "\\boxed{", "= "),  # with one token, or else the shorter one is first
    ):
        stops = StopText(tokenizer, stop)
        stops.push(tokenizer.encode("= \\boxed{18}"))
        assert (stops.stopped, stops.text) == (stopped, text)
    tokenizer = kinds["byte-level JSON"]
    word = max(range(tokenizer.vocab_size), key=lambda i: len(tokenizer.decode([i])))
    long = tokenizer.decode([word])
    stops = StopText(tokenizer, [long[1:], long[:2], long[:3], long[2:]])
    assert len(long) > 3 and stops.push([word]) == 1 and stops.stopped == long[:3]


def test_what_may_become_a_stop_is_held_back(kinds):
    tokenizer = kinds["byte-level JSON"]
    stops, taken = StopText(tokenizer, ["User:", "``"]), []
    for text in ("So", " Us", "e", "d. U", "`", "s"):
        assert stops.push(tokenizer.encode(text)) is None
        taken.append(stops.take())
    assert taken == ["So", " ", "", "Used. ", "U", "`s"] and stops.finish() == ""
    stops.push(tokenizer.encode(" U"))
    assert (stops.take(), stops.finish(), stops.text) == (" ", "U", "So Used. U`s U")


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_goes_on_behind_a_tools_answer(kinds, kind):
    """No stop string is looked for in the answer, or across its end."""
    tokenizer = kinds[kind]
    stops = StopText(tokenizer, ["```output", "#o"])
    program, answer = tokenizer.encode("1```output"), tokenizer.encode("\n#o三\n#")
    assert stops.push(program) == len(program) and stops.take() == "1"
    stops.go_on(answer)
    assert stops.stopped == "" and stops.take() == "```output\n#o三\n#"
    assert stops.push(tokenizer.encode("output 三")) is None
    last = tokenizer.encode("#o")
    assert stops.push([*last, *last]) == len(last)
    assert stops.with_stop == "1```output\n#o三\n#output 三#o" and stops.finish() == "output 三"


class Counting:
    """A tokenizer that counts what it decodes."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer, self.calls, self.ids = tokenizer, 0, 0

    def decode(self, ids: Sequence[int]) -> str:
        self.calls, self.ids = self.calls + 1, self.ids + len(ids)
        return self.tokenizer.decode(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_the_work_grows_with_the_tokens_alone(kinds, kind):
    counting = Counting(kinds[kind])
    broken = kinds[kind].encode("三")[:1]  # an untrained model may write nothing but these
    for part in (kinds[kind].encode(TEXTS[0] + TEXTS[2]), broken):
        counting.calls = counting.ids = 0
        stops, ids = StopText(counting, ["never"]), (part * 4096)[:4096]
        for chunk in chunked(ids, [16]):
            stops.push(chunk)
            stops.take()
        assert counting.calls < 2 * 4096 / 16 and counting.ids < 5 * 4096
