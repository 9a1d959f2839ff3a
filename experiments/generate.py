"""Answers of a model to questions, printed as they come.

    python experiments/generate.py --model DIR_OR_HUB_ID_OR_RUN "What is 3*4?"
    python experiments/generate.py --model DIR --n 4 --max-new-tokens 200 "What is 3*4?" "What is 5+6?"
    python experiments/generate.py --model DIR --json < questions.txt > answers.jsonl

Without a question: asks for them on a terminal, else reads one from each line of standard input. A question is put as
"User: .. Assistant:", the beginning of a finetuning example. Characters of an answer that steer a terminal are printed
as \\u001b. Left out on purpose: conversations of several turns, and running the programs that a model writes (from
Python: Tool, docs/sampling.md).
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import tyro

from dsm_jax.chat import ChatTemplate
from dsm_jax.cli import run_script
from dsm_jax.data.prompts import COT_INSTRUCTION, prompt_ids
from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh
from dsm_jax.sample.loading import find_model, load_sampler
from dsm_jax.sample.request import Completion, Request, asked
from dsm_jax.sample.sampler import Sampler
from dsm_jax.tokenizer import Tokenizer

# What steers a terminal or turns the direction of what follows, or is no character: all but newline and tab.
STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
HEADING = 80  # characters of a question


@dataclass(frozen=True)
class Generation:
    """Options."""

    questions: tyro.conf.Positional[tuple[str, ...]] = ()  # none: they are read from standard input
    preset: str = "default"
    model: str = ""  # a folder of a model, a hub id, or a run of ours (its model/)
    n: int = 1  # answers to each question
    max_new_tokens: int | None = None  # of an answer; left out: what the model has room for
    # 0 takes the most likely token; left out: 0, but 1 where n, top-p, top-k, min-p or seed is given
    temperature: float | None = None
    top_p: float = 1.0  # least mass of the most likely tokens that are kept
    top_k: int = 0  # most likely tokens that are kept; 0: all
    min_p: float = 0.0  # least probability kept, as a share of the most likely token's
    stop: tyro.conf.UseAppendAction[tuple[str, ...]] = ()  # a text that ends an answer; may be given again
    seed: int = 0  # another one gives other answers
    # what DeepSeekMath's authors append to a question, in its language
    instruction: Literal["en", "zh"] | None = None
    chat: bool = False  # the model's own chat template
    raw: bool = False  # no template: the model goes on with the text
    json: bool = False  # a line of JSON for each answer
    # such as fsdp=8 or data=2,tensor=4, or a name (gpu-8; README); left out: every device on fsdp
    mesh: str = ""
    # left out: float32 on a CPU, bfloat16 elsewhere
    dtype: Literal["float32", "bfloat16"] | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UserError(f"--n is {self.n}; it must be at least 1")
        if self.raw and (self.chat or self.instruction):
            raise UserError("--raw: the text is taken as it is; leave out --chat and --instruction")
        if not all(question.strip() for question in self.questions):
            raise UserError("a question is empty; leave it out, or write one")


@dataclass(frozen=True)
class Asker:
    """A loaded model, and how it is asked."""

    config: Generation
    sampler: Sampler
    tokenizer: Tokenizer
    template: ChatTemplate | None

    def request(self, question: str) -> Request:
        return Request(self.prompt(question), **options(self.config))

    def prompt(self, question: str) -> list[int]:
        if self.config.raw:
            return [self.tokenizer.bos_id, *self.tokenizer.encode(question)]
        if self.config.instruction:
            question += COT_INSTRUCTION[self.config.instruction]
        if self.template:
            return self.template.ids([{"role": "user", "content": question}])
        return prompt_ids(question, self.tokenizer)


def options(config: Generation) -> dict[str, Any]:
    """How an answer is drawn, as the sampler takes it."""
    names = ("n", "max_new_tokens", "top_p", "top_k", "min_p", "stop", "seed")
    chance = (config.n, config.top_p, config.top_k, config.min_p, config.seed) != (1, 1.0, 0, 0.0, 0)
    temperature = float(chance) if config.temperature is None else config.temperature
    return {name: getattr(config, name) for name in names} | {"temperature": temperature}


def main(config: Generation) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an answer may hold what the terminal cannot show
    try:
        on_terminal = sys.stdin is not None and sys.stdin.isatty()
        questions = config.questions or (() if on_terminal else piped_questions())
        asker = load(config)
        if questions:
            answer(asker, questions)
        else:
            ask_on_terminal(asker)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # whoever read the answers has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def piped_questions() -> tuple[str, ...]:
    """The lines of standard input that are not blank."""
    try:
        questions = tuple(line.rstrip("\r\n") for line in sys.stdin or () if line.strip())
    except UnicodeDecodeError as error:
        raise UserError("standard input is not text in UTF-8; convert it") from error
    if not questions:
        raise UserError("no question: give it behind the options, or one on each line of standard input")
    return questions


def load(config: Generation) -> Asker:
    """The model, its tokenizer first: what is missing is told before the parameters are read."""
    mesh = parse_mesh(config.mesh)
    if jax.process_count() > 1:
        raise UserError("generate.py: one process answers, and there are several")
    found = find_model(config.model)
    template = ChatTemplate(found.folder) if config.chat else None
    if error := asked(
        Request([found.tokenizer.bos_id], **options(config)), found.tokenizer, found.config
    ).error:
        raise UserError(f"an option cannot be: {error}")
    return Asker(config, load_sampler(found, mesh, dtype=config.dtype), found.tokenizer, template)


def ask_on_terminal(asker: Asker) -> None:
    """Questions line by line; each answer with nothing of those before."""
    import readline  # noqa: F401  (lets input() edit its lines; on some systems it writes to standard output)

    while True:
        try:
            question = input("> ")
        except EOFError:
            print()
            return
        if not question.strip():
            continue
        try:
            answer(asker, [question])
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)


def answer(asker: Asker, questions: Sequence[str]) -> None:
    """Prints the answers. Raises UserError, when all is done, where a question got none."""
    requests = [asker.request(question) for question in questions]
    alone = len(questions) == asker.config.n == 1 and not asker.config.json
    errors = print_as_it_comes(asker, requests) if alone else print_whole(asker, requests, questions)
    if errors and len(questions) > 1:
        number, reason = min(errors.items())
        raise UserError(
            f"{len(errors)} of {len(questions)} questions were not answered; question {number + 1}: {reason}"
        )
    if errors:
        raise UserError(errors[0])


def print_as_it_comes(asker: Asker, requests: Sequence[Request]) -> dict[int, str]:
    """The only answer, chunk by chunk; errors by the question's number."""
    errors: dict[int, str] = {}
    length = 0

    def show(request: int, sample: int, new: str) -> None:
        nonlocal length
        lead = "" if length or asker.config.raw else " "
        print(harmless(new.removeprefix(lead)), end="", flush=True)
        length += len(new)

    for request, sample, completion in asker.sampler.stream(requests, on_text=show):
        show(request, sample, completion.text[length:])
        if length or completion.finish_reason != "error":
            print()
        if completion.finish_reason == "error":
            errors[request] = reason(request, completion)
        if completion.finish_reason == "length":
            print(f"(cut at {len(completion.tokens)} tokens)", file=sys.stderr)
    return errors


def print_whole(asker: Asker, requests: Sequence[Request], questions: Sequence[str]) -> dict[int, str]:
    """Each answer as it ends, below a heading or as a line of JSON; errors by the question's number."""
    errors = {}
    for request, sample, completion in asker.sampler.stream(requests):
        if completion.finish_reason == "error":
            errors[request] = reason(request, completion)
        if asker.config.json:
            print(json_line(request, sample, questions[request], completion), flush=True)
            continue
        lead = "" if asker.config.raw else " "
        print(heading(request, sample, questions[request], completion, asker.config.n))
        if completion.text or not completion.error:
            print(harmless(completion.text.removeprefix(lead)))
        print(flush=True)
    return errors


def reason(request: int, completion: Completion) -> str:
    """Why there is no answer, without the sampler's number of the question: ours count from 1."""
    return completion.error.removeprefix(f"request {request}: ")


def heading(request: int, sample: int, question: str, completion: Completion, n: int) -> str:
    """What is above an answer."""
    line = harmless(" ".join(question.split()))
    line = line if len(line) <= HEADING else line[: HEADING - 2] + ".."
    of_several = f", answer {sample + 1} of {n}" if n > 1 else ""
    ended = {"stop": "", "length": ", cut", "error": f", error: {harmless(reason(request, completion))}"}
    return f"## {request + 1}. {line} ({len(completion.tokens)} tokens{of_several}{ended[completion.finish_reason]})"


def json_line(request: int, sample: int, question: str, completion: Completion) -> str:
    """An answer as JSON; questions and their answers are numbered from 0."""
    row = {
        "index": request,
        "sample": sample,
        "question": question,
        "completion": completion.text,
        "tokens": len(completion.tokens),
        "finish_reason": completion.finish_reason,
        "logp": round(float(completion.logps.sum(dtype=float)), 6),
    }
    row |= {"error": reason(request, completion)} if completion.error else {}
    return harmless(json.dumps(row, ensure_ascii=False))


def harmless(text: str) -> str:
    """The text with what steers a terminal written out; within JSON it means the same."""
    return STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


PRESETS = {"default": Generation()}

if __name__ == "__main__":
    run_script(main, PRESETS)
