"""generate.py: what it asks the sampler, what it prints, and what it says of a mistake."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import NamedTuple

import jax
import numpy as np
import pytest

from dsm_jax.data.prompts import COT_INSTRUCTION, prompt_ids
from dsm_jax.mesh import single_device_mesh
from dsm_jax.model import Model, save_hf
from dsm_jax.model.config import SMOKE
from dsm_jax.model.params import init_params
from dsm_jax.sample import loading
from dsm_jax.sample.request import Completion
from dsm_jax.tokenizer import TextStream, load_tokenizer, train_sentencepiece
from tests.experiments.scripts import error_line, load_script, run

QUESTION = "What is 3*4?"
TEXTS = ["User: What is 3*4?\n\nAssistant: It is \\boxed{12}.", "小明有3个苹果，一共有8个。"] * 5
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"  # no 'User:'
)


@pytest.fixture(scope="module")
def script():
    return load_script("generate")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of random numbers with its tokenizer and a chat template."""
    at = tmp_path_factory.mktemp("model")
    train_sentencepiece(TEXTS, at / "tokenizer.model", vocab_size=340)
    mesh = single_device_mesh()
    save_hf(Model(SMOKE, init_params(SMOKE, 0, mesh)), at / "saved", at / "tokenizer.model")
    (at / "saved/chat_template.jinja").write_text(TEMPLATE)
    return at / "saved"


class Finished(NamedTuple):
    request: int
    sample: int
    completion: Completion


class FakeSampler:
    """Answers with the texts that it is given, three tokens a chunk, the last request first."""

    texts: tuple[str, ...] = ()
    interrupt = False

    def __init__(self, model: Model, tokenizer, mesh: jax.sharding.Mesh, *, slots: None):
        assert model.mesh == mesh and slots is None
        FakeSampler.last, self.tokenizer = self, tokenizer

    def stream(self, prompts, *, tool=None, on_text=None, **options) -> Iterator[Finished]:
        assert tool is None and not options
        self.prompts = prompts
        for request in reversed(range(len(prompts))):
            for sample in range(prompts[request].n):
                yield Finished(request, sample, self.complete(request, sample, on_text))

    def complete(self, request: int, sample: int, on_text) -> Completion:
        text = FakeSampler.texts[(request + sample) % len(FakeSampler.texts)]
        ids, stream = self.tokenizer.encode(text), TextStream(self.tokenizer)
        if on_text:
            for at in range(0, len(ids), 3):
                on_text(request, sample, stream.push(ids[at : at + 3]))
                if FakeSampler.interrupt:
                    raise KeyboardInterrupt
        reason = {"E": "error", "L": "length"}.get(text[-1:], "stop")
        logps = np.full(len(ids), -0.5, np.float32)
        error = f"request {request}: the prompt is too long" if reason == "error" else ""
        return Completion(text, np.array(ids, np.int32), logps, logps, logps > 0, reason, error)


@pytest.fixture
def say(script, monkeypatch):
    """Sets what the model answers."""
    monkeypatch.setattr(loading, "Sampler", FakeSampler)
    monkeypatch.setattr(FakeSampler, "interrupt", False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return lambda *texts: monkeypatch.setattr(FakeSampler, "texts", texts)


def asked(number: int = 0):
    return FakeSampler.last.prompts[number]


def test_one_answer_comes_as_it_decodes(script, folder, say, monkeypatch):
    writes: list[str] = []
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=writes.append, flush=lambda: writes.append("|")))
    say(" 小明 says 三😀三 and so on.")
    run(script, "--model", folder, QUESTION)
    written = "".join(writes)
    assert written.replace("|", "") == "小明 says 三😀三 and so on.\n"
    assert written.count("|") > 5 and "\ufffd" not in written


def test_the_prompt_is_the_beginning_of_an_example(script, folder, say):
    tokenizer = load_tokenizer(folder)
    say(" 12")
    run(script, "--model", folder, QUESTION)
    assert asked().prompt == prompt_ids(QUESTION, tokenizer)
    for language in ("en", "zh"):
        run(script, "--model", folder, QUESTION, "--instruction", language)
        assert asked().prompt == prompt_ids(QUESTION + COT_INSTRUCTION[language], tokenizer)
    run(script, "--model", folder, "--raw", " 3*4=")
    assert asked().prompt == [tokenizer.bos_id, *tokenizer.encode(" 3*4=")]
    run(script, "--model", folder, "--chat", "</s>", "--instruction", "en")
    assert tokenizer.decode(asked().prompt) == f"[user]</s>{COT_INSTRUCTION['en']}[assistant]"


def test_options_of_drawing(script, folder, say):
    say(" 12")
    run(script, "--model", folder, QUESTION)
    assert asked().temperature == 0 and asked().max_new_tokens is None and asked().stop == ()
    for option, value in (("n", 2), ("top_p", 0.5), ("top_k", 3), ("min_p", 0.1), ("seed", 4)):
        run(script, "--model", folder, "--" + option.replace("_", "-"), value, QUESTION)
        assert getattr(asked(), option) == value and asked().temperature == 1
    run(
        script, "--model", folder, "--temperature", 0.7, "--max-new-tokens", 5, "--stop", "\n\n", "--stop", "User:",
        QUESTION,
    )  # fmt: skip
    assert (asked().temperature, asked().max_new_tokens) == (0.7, 5) and [*asked().stop] == ["\n\n", "User:"]


def test_several_rows_come_whole_below_headings(script, folder, say, capsys):
    say(" It is 12.", " so L")
    run(script, "--model", folder, "--n", 2, QUESTION, "How\nmany? " + "x" * 100)
    tokens = len(load_tokenizer(folder).encode(" It is 12."))
    out = capsys.readouterr().out
    assert f"## 1. What is 3*4? ({tokens} tokens, answer 1 of 2)\nIt is 12.\n\n" in out
    assert "tokens, answer 2 of 2, cut)\nso L\n\n" in out
    assert "## 2. How many? xxx" in out and max(map(len, out.splitlines())) < 120


def test_json_lines(script, folder, say, capsys):
    say(" It's \x1b[31m\x9b1m三\n", "L", "E")
    with pytest.raises(SystemExit) as end:
        run(script, "--model", folder, "--json", QUESTION, "b", "c")
    out, err = capsys.readouterr()
    assert (
        end.value.code == 2
        and "1 of 3 questions were not answered; question 3: the prompt is too long" in err
    )
    rows = {row["index"]: row for row in map(json.loads, out.splitlines())}
    count = len(load_tokenizer(folder).encode(" It's \x1b[31m\x9b1m三\n"))
    assert rows[0] == {
        "index": 0, "sample": 0, "question": QUESTION, "completion": " It's \x1b[31m\x9b1m三\n", "tokens": count,
        "finish_reason": "stop", "logp": -0.5 * count,
    }  # fmt: skip
    assert rows[1]["finish_reason"] == "length" and rows[2]["error"] == "the prompt is too long"
    assert "三" in out and not any(char in out for char in "\x1b\x9b")


def test_text_that_steers_a_terminal_is_written_out(script, folder, say, capsys):
    bad = "a\x1b]0;owned\x07\x9b2J\rb\x00\x7f\u202ec\u2028\ud800"
    say(f" {bad}\t三\n　é")
    run(script, "--model", folder, QUESTION)
    shown = "a\\u001b]0;owned\\u0007\\u009b2J\\u000db\\u0000\\u007f\\u202ec\\u2028?\t三\n　é\n"  # a lone surrogate: ?
    assert capsys.readouterr().out == shown
    run(script, "--model", folder, QUESTION, "\x1b[2J")
    out = capsys.readouterr().out
    assert "\x1b" not in out and "## 2. \\u001b[2J" in out
    assert script.harmless("\ud800") == "\\ud800"


def test_a_terminal_without_the_characters(script, folder, say, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    say(" 三 is 3")
    run(script, "--model", folder, QUESTION)
    sys.stdout.flush()
    assert raw.getvalue() == b"? is 3\n"


def test_questions_from_a_pipe(script, folder, say, monkeypatch, capsys):
    say(" 12")
    monkeypatch.setattr(sys, "stdin", io.StringIO("一加一?\n\n  What?  \n"))
    run(script, "--model", folder)
    out = capsys.readouterr().out
    assert asked(1).prompt == prompt_ids("  What?  ", load_tokenizer(folder))
    assert "## 1. 一加一?" in out and "## 2. What? (" in out and "## 3" not in out
    for text, said in ((b" \n", "no question"), (b"\xff\xfe\n", "not text in UTF-8")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), "utf-8"))
        assert said in error_line(script, capsys, "--model", folder)


def test_questions_from_a_terminal(script, folder, say, monkeypatch, capsys):
    lines = iter(["one", "  ", "two"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)

    def line(sign: str) -> str:
        print(sign, end="")
        text = next(lines, None)
        if text is None:
            raise EOFError
        say({"one": " 三 L", "two": "E"}[text] if text.strip() else "")
        return text

    monkeypatch.setattr("builtins.input", line)
    run(script, "--model", folder)
    out, err = capsys.readouterr()
    assert out == "> 三 L\n> > E\n> \n" and "(cut at " in err and "error: the prompt is too long" in err


def test_ctrl_c_ends_with_130(script, folder, say, monkeypatch, capsys):
    say(" a long answer")
    monkeypatch.setattr(FakeSampler, "interrupt", True)
    with pytest.raises(SystemExit) as end:
        run(script, "--model", folder, QUESTION)
    out, err = capsys.readouterr()
    assert end.value.code == 130 and out and "Traceback" not in err


def test_mistakes_are_told_in_one_line(script, folder, say, capsys, tmp_path):
    say("E")
    assert error_line(script, capsys, "--model", folder, QUESTION) == "error: the prompt is too long"
    (tmp_path / "no_tokenizer").mkdir()
    config, weights = ((folder / name).read_bytes() for name in ("config.json", "model.safetensors"))
    (tmp_path / "no_tokenizer/config.json").write_bytes(config)
    (tmp_path / "cut").mkdir()
    for file in folder.iterdir():
        (tmp_path / "cut" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "cut/chat_template.jinja").unlink()
    (tmp_path / "cut/model.safetensors").write_bytes(weights[: len(weights) // 2])
    for words, said in (
        ([QUESTION], "--model: give the folder"),
        (["--model", tmp_path / "missing", QUESTION], "no such folder"),
        (["--model", tmp_path, QUESTION], "config.json is missing"),
        (["--model", tmp_path / "no_tokenizer", QUESTION], "no tokenizer.json"),
        (["--model", tmp_path / "cut", QUESTION], "model.safetensors"),
        (["--model", tmp_path / "cut", "--chat", QUESTION], "no chat template"),
        (["--model", folder, QUESTION, " "], "a question is empty"),
        (["--model", folder, "--n", 0, QUESTION], "--n is 0"),
        (["--model", folder, "--raw", "--chat", QUESTION], "--raw"),
        (["--model", folder, "--mesh", "fsdp=3", QUESTION], "--mesh fsdp=3"),
        (["--model", folder, "--dtype", "int8", QUESTION], "int8"),
    ):
        assert said in error_line(script, capsys, *words)


def test_a_run_stands_for_its_model(script, folder, say, capsys, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/model").symlink_to(folder)
    say(" 12")
    run(script, "--model", tmp_path / "run", QUESTION)
    assert capsys.readouterr().out == "12\n"


def test_a_model_answers(script, folder, capsys):
    """Random numbers write anything: the same whether it comes in pieces or whole, by one device or eight."""
    words = ["--model", folder, "--max-new-tokens", 40, "--temperature", 1]
    run(script, *words, QUESTION)
    live = capsys.readouterr().out
    run(script, *words, "--json", "--mesh", "data=2,fsdp=2,tensor=2", QUESTION)
    row = json.loads(capsys.readouterr().out)
    assert live == script.harmless(row["completion"].removeprefix(" ")) + "\n"
    assert 0 < row["tokens"] <= 40 and row["logp"] < 0
    run(script, *words, "--json", "--n", 2, "--stop", row["completion"][3:6], QUESTION)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["sample"]: one for one in rows}[0]["completion"] == row["completion"][:3]


def test_a_prompt_that_is_too_long(script, folder, capsys):
    """Keeps no other question from its answer."""
    long = "x y " * SMOKE.max_seq_len
    line = error_line(script, capsys, "--model", folder, "--max-new-tokens", 4, long)
    assert line.startswith("error: the prompt has")
    with pytest.raises(SystemExit) as end:
        run(script, "--model", folder, "--max-new-tokens", 4, QUESTION, long)
    out, err = capsys.readouterr()
    assert end.value.code == 2 and "1 of 2 questions were not answered; question 2: the prompt has" in err
    assert "## 1. What is 3*4? (4 tokens, cut)" in out and "(0 tokens, error: the prompt has" in out
