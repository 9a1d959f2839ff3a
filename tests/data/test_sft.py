"""The template's exact ids, the loss on answers only, tool outputs masked, and what happens to long examples."""

import gzip
import json
import re

import jinja2
import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.chat import ChatTemplate
from dsm_jax.data.prompts import TOOL_STOP, prompt_ids, prompt_text, tool_text
from dsm_jax.data.sft import (
    Turn,
    answer_pieces,
    encode_example,
    encode_record,
    is_open,
    is_unclear,
    make_record,
    qa_record,
    sft_windows,
)
from dsm_jax.errors import UserError
from dsm_jax.tokenizer import load_tokenizer, train_sentencepiece

PAIRS = [
    (f"What is {a} + {b}?", f"{a} + {b} = {a + b}\nso \\boxed{{{a + b}}}") for a in range(5) for b in range(5)
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    texts = [f"User: {q}\n\nAssistant: {a}" for q, a in PAIRS]
    path = tmp_path_factory.mktemp("sft") / "t.model"
    return train_sentencepiece(texts, path, vocab_size=320, symbols=["+", "=", "\\boxed{"])


def test_template():
    assert prompt_text("1 + 1?") == "User: 1 + 1?\n\nAssistant:"


def test_prompt_is_a_prefix_and_only_the_answer_is_a_target(tokenizer):
    example = encode_example("1 + 1?", "It is 2.", tokenizer)
    prompt = prompt_ids("1 + 1?", tokenizer)
    assert example.ids[: len(prompt)] == prompt and prompt[0] == tokenizer.bos_id
    assert tokenizer.decode(example.ids) == "User: 1 + 1?\n\nAssistant: It is 2."
    targets = [i for i, is_target in zip(example.ids, example.is_target, strict=True) if is_target]
    assert targets == [*tokenizer.encode(" It is 2."), tokenizer.eos_id]


def test_windows_hold_every_example_with_its_mask(tokenizer):
    packed = sft_windows(PAIRS, tokenizer, 96)
    assert packed.dropped == 0 and len(packed.windows) < len(PAIRS)
    seen = []
    for window in packed.windows:
        for number in range(1, window["segment_ids"].max() + 1):
            here = window["segment_ids"] == number
            answer = window["tokens"][here & (window["loss_mask"] == 1)]
            assert answer[-1] == tokenizer.eos_id
            seen.append((tokenizer.decode(window["tokens"][here]), tokenizer.decode(answer)))
    assert sorted(seen) == sorted((f"User: {q}\n\nAssistant: {a}", f" {a}") for q, a in PAIRS)


def test_long_examples_are_counted(tokenizer):
    packed = sft_windows([*PAIRS, ("why?", "because " * 50)], tokenizer, 96)
    assert packed.dropped == 1
    with pytest.raises(UserError, match="fits into 5 tokens"):
        sft_windows(PAIRS, tokenizer, 5)


class Characters:
    """A tokenizer of one id a character, so that a reference can be written in text."""

    vocab_size, bos_id, eos_id, pad_id, fingerprint = 0x110000, 1, 2, 0, "characters"

    def encode(self, text):
        return list(map(ord, text))

    def decode(self, ids):
        return "".join(chr(i) for i in ids if i > 3)


def slow_mask(answer: str) -> list[bool]:
    """One flag a character: line by line, without regular expressions."""
    flags, inside = [], False
    for line in answer.split("\n"):
        if inside:
            flags += [False] * (len(line) + 1)
            inside = line.strip() != "```"
        elif line.startswith("```output") and not line[9:].strip():
            flags += [True] * 9 + [False] * (len(line) - 9 + 1)
            inside = True
        else:
            flags += [True] * (len(line) + 1)
    return flags[: len(answer)]


LINES = [
    "```output",
    "```output ",
    "```",
    "``` ",
    "```python",
    "18",
    "",
    " ```output",
    "```outputs",
    "so \\boxed{18}.",
]


@given(st.lists(st.sampled_from(LINES), max_size=12))
def test_masks_are_those_of_a_slow_reference(lines):
    answer = "\n".join(lines)
    example = encode_example("q?", answer, Characters())
    prompt = prompt_ids("q?", Characters())
    expected = [False] * len(prompt) + [True, *slow_mask(answer), True]
    assert example.ids == [*prompt, *map(ord, f" {answer}"), 2]
    assert list(example.is_target) == expected
    assert "".join(piece.text for piece in answer_pieces(answer)) == answer


def test_what_the_tool_says_is_no_target_and_asking_for_it_is():
    code, end = "```python\nprint(9+9)\n```\n", "So it is \\boxed{18}."
    answer = code + TOOL_STOP + tool_text("18") + end
    assert answer_pieces(answer) == [(code + TOOL_STOP, True), ("\n18\n```\n", False), (end, True)]
    two = answer_pieces(f"{TOOL_STOP}{tool_text('a')}```python\nb\n```\n{TOOL_STOP}{tool_text('```python')}")
    assert [piece.is_target for piece in two] == [True, False, True, False]
    assert not is_open(answer) and is_open("```python\n1\n```\n```output\n18")


PRINTED = ["2", "", "```python", "``` x", "```output", "~~~", "```", " ```"]


@given(st.lists(st.lists(st.sampled_from(PRINTED), max_size=3), min_size=1, max_size=3))
def test_an_output_whose_end_cannot_be_known_is_unclear(outputs):
    """Rounds whose outputs print fences, but no whole round."""
    code = f"Words.\n```python\nprint(1)\n```text\n```\n{TOOL_STOP}"
    inserted = [tool_text("\n".join(lines)) for lines in outputs]
    answer = "".join(code + text for text in inserted) + "The end."
    assert is_unclear(answer) == any("```" in lines for lines in outputs)
    if not is_unclear(answer):
        assert [text for text, is_target in answer_pieces(answer) if not is_target] == inserted


@pytest.mark.parametrize(
    "answer, unclear",
    [
        ("```\n1\n```\nno tool", False),
        ("```python\n1\n```\n```json\n1\n```", False),
        ("```python\n1\n```\nSo:\n```output\n1\n```\n```python\n2\n```\n```output\n2\n```", False),
        ("```python\n1\n```output\n1\n```", True),  # the program never closes
        ("```output\n1\n```", True),
        ("```\n1\n```\n```output\n1\n```", True),
        ("```python\n1\n```\n```output\n```\n```python\n1\n```", True),  # the last one may be printed
    ],
)
def test_what_is_unclear(answer, unclear):
    assert is_unclear(answer) is unclear


def test_a_conversation_is_the_template_again_behind_each_answer():
    turns = [
        ("system", "Be brief."),
        ("user", "1+1?"),
        ("assistant", "2"),
        ("user", "And 2+2?"),
        ("assistant", "4"),
    ]
    record = make_record([Turn(*turn) for turn in turns])
    example = encode_record(record, Characters())
    text = "Be brief.\n\nUser: 1+1?\n\nAssistant: 2\x02User: And 2+2?\n\nAssistant: 4\x02"
    assert example.ids == [1, *map(ord, text)]
    targets = [i for i, is_target in zip(example.ids, example.is_target, strict=True) if is_target]
    assert targets == [*map(ord, " 2\x02 4\x02")]
    assert (record.kind, record.question) == ("chat", "1+1?")


@pytest.mark.parametrize(
    "answer, kind",
    [
        ("It is 2.\nprint it", "cot"),
        ("import math\nx = 2\nprint(x)", "pot"),
        ("```python\n1 + 1\n```", "pot"),
        ("```python\nprint(2)\n```\n```output\n2\n```\n\\boxed{2}", "tool"),
        ("from here on, import duties rise", "cot"),
    ],
)
def test_kinds(answer, kind):
    assert qa_record("q", answer).kind == kind


@pytest.fixture(scope="module")
def transcripts(dsm_data):
    with gzip.open(dsm_data / "labelled_outputs/gsm8k_tora-70b-v1.0_tool_integrated.jsonl.gz") as file:
        return [(row["question"], row["code"][0]) for row in map(json.loads, file)]


def byte_level(texts, path):
    """A byte-level BPE tokenizer.json, the other kind that users have."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=2_000,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    model.save(str(path))
    return load_tokenizer(path)


@pytest.mark.parametrize("kind", ["sentencepiece", "tokenizer.json"])
def test_masks_of_real_transcripts(transcripts, tmp_path, kind):
    texts = [text for pair in transcripts[:200] for text in pair]
    if kind == "sentencepiece":
        tokenizer = train_sentencepiece(texts, tmp_path / "t.model", vocab_size=2_000)
    else:
        tokenizer = byte_level(texts, tmp_path / "tokenizer.json")
    blocks = 0
    for question, code in transcripts:
        example = encode_example(question, code, tokenizer)
        is_target = np.array(example.is_target)
        ids = np.array(example.ids)
        # The format, read once more: everything between the words ```output and the line behind the next fence.
        cut = re.split(r"(?<=\n```output)(\n.*?\n```(?:\n|$))", code, flags=re.DOTALL)
        assert tokenizer.decode(ids[is_target]) == " " + "".join(cut[::2])
        assert tokenizer.decode(ids[~is_target]) == prompt_text(question) + "".join(cut[1::2])
        assert tokenizer.decode(ids) == f"{prompt_text(question)} {code}"
        # Each piece's ids are those of the piece alone: what the sampler draws, and what is inserted.
        at = 1
        for text in (prompt_text(question), " " + cut[0], *cut[1:]):
            piece = tokenizer.encode(text)
            assert example.ids[at : at + len(piece)] == piece
            at += len(piece)
        assert example.ids[at:] == [tokenizer.eos_id] and is_target[-1]
        blocks += len(cut) // 2
    assert (len(transcripts), blocks) == (1_319, 1_318)


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORGETFUL = CHATML.replace("{{ m.content }}", "{{ m.content if loop.last or m.role == 'user' else '..' }}")


def chat_folder(folder, template):
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(["assistant\n", "user\n"] * 5, trainer)
    model.save(str(folder / "tokenizer.json"))
    config = {"chat_template": template, "eos_token": "<|im_end|>", "bos_token": "<|im_start|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return load_tokenizer(folder), ChatTemplate(folder)


CHAT = make_record(
    [Turn("user", "2?"), Turn("assistant", f"```python\n2\n```\n{TOOL_STOP}{tool_text('2')}2."), Turn("user", "3?"),
     Turn("assistant", "3.")]
)  # fmt: skip


def test_a_models_own_template(tmp_path):
    tokenizer, template = chat_folder(tmp_path, CHATML)
    example = encode_record(CHAT, tokenizer, template)
    messages = [{"role": turn.role, "content": turn.text} for turn in CHAT.turns]
    # The line break behind the last end of turn is never sampled, and not in the example.
    assert example.ids == template.ids(messages, add_generation_prompt=False)[:-1]
    flags = np.array(example.is_target)
    assert tokenizer.decode(np.array(example.ids)[flags]) == f"```python\n2\n```\n{TOOL_STOP}2.3."
    ends = np.array(example.ids) == tokenizer.eos_id
    assert flags[ends].tolist() == [False, True, False, True]  # of user and answer in turn


def test_templates_that_cannot_be_trained_are_refused(tmp_path):
    tokenizer, template = chat_folder(tmp_path, FORGETFUL)
    with pytest.raises(
        UserError, match=r"its chat template rewrites earlier turns \(the conversation that begins with '2\?'"
    ):
        encode_record(CHAT, tokenizer, template)
    tokenizer, template = chat_folder(tmp_path, CHATML.replace("<|im_end|>", ""))
    for words, others, said in (
        ("<|im_end|>", "", "does not end an answer with the tokenizer's end of sequence"),
        ("{{ m.content }}", "{{ m.content | upper }}", "changes what an answer says"),
        (
            "{% for",
            "{% if not add_generation_prompt %}Now:{% endif %}{% for",
            "behind other words than it asks with",
        ),
    ):
        tokenizer, template = chat_folder(tmp_path, CHATML.replace(words, others))
        with pytest.raises(UserError, match=said):
            encode_record(qa_record("two?", "two."), tokenizer, template)


# The chat template of deepseek-math-7b-rl's tokenizer_config.json.
RELEASED = (
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}"
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}"
    "{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def test_conversations_are_written_as_the_released_template_writes_them(tmp_path):
    _, template = chat_folder(tmp_path, RELEASED)
    record = make_record([Turn("system", "Be brief."), *CHAT.turns])
    messages = [{"role": turn.role, "content": turn.text} for turn in record.turns]
    text = template.text(messages, add_generation_prompt=False)
    ids = encode_record(record, Characters()).ids
    assert "".join({1: "<|im_start|>", 2: "<|im_end|>"}.get(i, chr(i)) for i in ids) == text


LEADING = CHATML.replace(  # as Qwen3 writes an answer without thoughts, in the last turn and before it
    "{{ m.content }}", "{{ '<think>\n\n</think>\n\n' if m.role == 'assistant' }}{{ m.content }}"
)
CLOSING = RELEASED.replace(
    "message['content'] + eos_token", "message['content'] + ' ' + eos_token"
)  # as Llama 2


@pytest.mark.parametrize("source", [RELEASED, CHATML, LEADING, CLOSING])
@pytest.mark.parametrize("answer", ["It is 4.", "<|im_end|> ends it."])
def test_conversations_train_what_their_template_writes(tmp_path, source, answer):
    """The ids are those of the whole conversation, rendered and encoded at once; targets are all behind each prompt."""
    tokenizer, template = chat_folder(tmp_path, source)
    turns = [
        ("system", "Be brief."),
        ("user", "2+2?"),
        ("assistant", answer),
        ("user", "2?"),
        ("assistant", "Two."),
    ]
    example = encode_record(make_record([Turn(*turn) for turn in turns]), tokenizer, template)
    messages = [{"role": role, "content": content} for role, content in turns]
    whole = template.ids(messages, add_generation_prompt=False)
    assert (
        example.ids == whole[: len(whole) - whole[::-1].index(tokenizer.eos_id)]
    )  # no line break behind the end
    if "<|" not in answer:  # as transformers does it
        names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
        text = jinja2.Template(source).render(messages=messages, add_generation_prompt=False, **names)
        model = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        assert model.encode(text, add_special_tokens=False).ids[: len(example.ids)] == example.ids
    ids, flags = np.array(example.ids), np.array(example.is_target)
    before, behind = {RELEASED: (" ", ""), CLOSING: (" ", " ")}.get(source, ("", ""))
    before = "<think>\n\n</think>\n\n" if source == LEADING else before
    assert tokenizer.decode(ids[flags]) == f"{before}{answer}{behind}{before}Two.{behind}"
    assert (ids[flags] == tokenizer.eos_id).sum() == 2


def test_tool_outputs_are_masked_in_a_template_of_the_models_own(tmp_path):
    tokenizer, template = chat_folder(tmp_path, CLOSING)
    answer = f"```python\n2\n```\n{TOOL_STOP}{tool_text('2')}"
    record = make_record([Turn("user", "2?"), Turn("assistant", answer)])
    example = encode_record(record, tokenizer, template)
    flags = np.array(example.is_target)
    assert tokenizer.decode(np.array(example.ids)[flags]) == f" ```python\n2\n```\n{TOOL_STOP} "
    assert tokenizer.decode(example.ids) == f"User: 2?\n\nAssistant: {answer} "
