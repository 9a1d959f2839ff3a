"""Chat messages to token ids by a model's own template, the Jinja text that comes with its tokenizer.

The ids are those of transformers' apply_chat_template, with one difference: a special token that a message spells
("<|im_end|>" typed by a user) stays ordinary text; a template that would make one of a message's words (by joining,
cutting or changing them) is refused that message. Left out on purpose: tools and messages in parts (images).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.nodes
import jinja2.parser
import tokenizers
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dsm_jax.errors import UserError
from dsm_jax.tokenizer import ROLES, SpecialTokens, read_tokenizer_config, token_names, valid

# Of a private plane: around each special token that a message spells, and cut out again.
OPEN, CLOSE = "\U000f0000", "\U000f0001"
SPELLED = re.compile(f"{OPEN}([^{OPEN}{CLOSE}]*){CLOSE}")


class ChatTemplate:
    """The template of a folder with tokenizer.json: chat_template.jinja, or an entry of tokenizer_config.json.

    Raises UserError where there is none, or it is no Jinja template.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).parent if Path(folder).is_file() else Path(folder)
        try:
            self._model = tokenizers.Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        except Exception as error:  # the library raises plain Exception for whatever is wrong with the file
            raise UserError(f"{self.folder}/tokenizer.json: missing or damaged ({error})") from error
        self._model.no_truncation()
        self._model.no_padding()
        self._special = SpecialTokens(self._model)
        config = read_tokenizer_config(self.folder / "tokenizer_config.json")
        self._names = token_names(config, ROLES)
        source = _source(self.folder, config)
        self.fingerprint = hashlib.sha256(source.encode("utf-8", "replace")).hexdigest()
        self._template = self._compile(source)

    def ids(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True, **variables: Any
    ) -> list[int]:
        """Token ids of messages {"role": .., "content": ..}; add_generation_prompt: up to where the answer begins.

        variables: what else the template asks for, such as Qwen3's enable_thinking. Raises UserError for messages of
        another form, and where the template refuses them.
        """
        return self._written(messages, add_generation_prompt, variables)[1]

    def marked(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> str:
        """The text whose ids `ids` gives; `encode` knows what stands in it between marks for a message's own words."""
        return self._written(messages, add_generation_prompt, {})[0]

    def mark(self, text: str) -> str:
        """A message's words as they stand in a marked text, unless the template changes them."""
        return self._special.pattern.sub(lambda found: OPEN + found[0] + CLOSE, _unmarked(valid(text)))

    def token(self, token_id: int) -> str:
        """The name of a token."""
        return self._model.id_to_token(token_id) or ""

    def _written(
        self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool, variables: dict[str, Any]
    ) -> tuple[str, list[int]]:
        """The marked text and its ids."""
        text, harmless = (
            self.text([change(one) for one in messages], add_generation_prompt, **variables)
            for change in (self._guarded, self._harmless)
        )
        ids = self.encode(text)
        if self._count_special(ids) > self._count_special(self.encode(harmless)):
            raise UserError(
                f"{self.folder}: its chat template makes a special token of what a message says; take that text out"
            )
        return text, ids

    def encode(self, text: str) -> list[int]:
        """Token ids of a marked text; what a message spelled, between marks, is text."""
        ids: list[int] = []
        for i, part in enumerate(SPELLED.split(text)):
            if i % 2:
                ids += self._special.encode_as_text(_unmarked(part))
            else:
                self._model.encode_special_tokens = False
                ids += self._model.encode(_unmarked(part), add_special_tokens=False).ids
        return ids

    def _count_special(self, ids: Sequence[int]) -> int:
        return sum(i in self._special.ids for i in ids)

    def text(
        self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The messages as the template writes them."""
        given = {"messages": messages, "add_generation_prompt": add_generation_prompt}
        try:
            return self._template.render(given | self._names | variables)
        except Exception as error:  # a template is a program: whatever goes wrong in it
            raise UserError(f"{self.folder}: its chat template refuses the messages: {error}") from error

    def _guarded(self, message: Mapping[str, str]) -> dict[str, str]:
        """The message with every special token that it spells marked."""
        if not isinstance(message, Mapping) or {*message} != {"role", "content"} or not _are_texts(message):
            raise UserError(f'a chat message is {{"role": text, "content": text}}, not {message!r:.80}')
        return {key: self.mark(text) for key, text in message.items()}

    def _harmless(self, message: Mapping[str, str]) -> dict[str, str]:
        """The message without any sign that special tokens are written with: no template makes one of it."""
        signs = {"role": r"[^\w\s]", "content": r"[^\w\s]|_"}  # a role such as tool_call keeps its name
        return {key: re.sub(signs[key], OPEN, text) for key, text in message.items()}

    def _compile(self, source: str) -> jinja2.Template:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
        try:
            return environment.from_string(source)
        except jinja2.TemplateError as error:
            raise UserError(f"{self.folder}: its chat template is no Jinja template: {error}") from error


class Generation(Extension):
    """{% generation %} .. {% endgeneration %}, around what an assistant said: no text of its own."""

    tags = frozenset({"generation"})  # type: ignore[assignment]

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _are_texts(message: Mapping[str, Any]) -> bool:
    return all(isinstance(text, str) for text in message.values())


def _unmarked(text: str) -> str:
    return text.replace(OPEN, "").replace(CLOSE, "")


def _source(folder: Path, config: Mapping[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UserError(
                f"{file}: not text in UTF-8, or not readable ({error}); fetch it again"
            ) from error
    source = config.get("chat_template")
    if isinstance(source, list):  # several by name
        named = [entry for entry in source if isinstance(entry, dict)]
        source = {entry.get("name"): entry.get("template") for entry in named}.get("default")
    if not isinstance(source, str):
        raise UserError(f"{folder}: no chat template in chat_template.jinja or tokenizer_config.json")
    return source


def _to_json(value: Any, indent: int | None = None) -> str:
    """As transformers has it: unlike Jinja's own, without HTML escapes."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
