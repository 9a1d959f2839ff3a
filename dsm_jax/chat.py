"""Chat messages to token ids by a model's own template, the Jinja text that comes with its tokenizer.

The ids are those of transformers' apply_chat_template, with one difference: a special token that a message spells
("<|im_end|>" typed by a user) stays ordinary text. Left out on purpose: tools and messages in parts (images).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import tokenizers
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dsm_jax.errors import UserError
from dsm_jax.tokenizer import read_tokenizer_config, token_names

# Of a private plane: around each special token that a message spells, and cut out again.
OPEN, CLOSE = "\U000f0000", "\U000f0001"
SPELLED = re.compile(f"{OPEN}([^{OPEN}{CLOSE}]*){CLOSE}")


class ChatTemplate:
    """The template of a folder with tokenizer.json: chat_template.jinja, or an entry of tokenizer_config.json.

    Raises UserError where there is none, or it is no Jinja template.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        try:
            self._model = tokenizers.Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        except Exception as error:  # the library raises plain Exception for whatever is wrong with the file
            raise UserError(f"{self.folder}/tokenizer.json: missing or damaged ({error})") from error
        self._model.no_truncation()
        self._model.no_padding()
        added = self._model.get_added_tokens_decoder().values()
        special = sorted((token.content for token in added if token.special), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, special)) or r"(?!)")
        config = read_tokenizer_config(self.folder / "tokenizer_config.json")
        self._names = token_names(config, ("bos_token", "eos_token", "pad_token", "unk_token"))
        self._template = self._compile(_source(self.folder, config))

    def ids(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> list[int]:
        """Token ids of messages {"role": .., "content": ..}; add_generation_prompt: up to where the answer begins.

        Raises UserError for messages of another form, and where the template refuses them.
        """
        text = self.text([self._guarded(message) for message in messages], add_generation_prompt)
        ids: list[int] = []
        for i, part in enumerate(SPELLED.split(text)):  # the odd ones were spelled by a message
            self._model.encode_special_tokens = (
                i % 2 == 1
            )  # the library's name for: read them as ordinary text
            ids += self._model.encode(_unmarked(part), add_special_tokens=False).ids
        return ids

    def text(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> str:
        """The messages as the template writes them."""
        try:
            return self._template.render(
                messages=messages, add_generation_prompt=add_generation_prompt, **self._names
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise UserError(f"{self.folder}: its chat template refuses the messages: {error}") from error

    def _guarded(self, message: Mapping[str, str]) -> dict[str, str]:
        """The message with every special token that it spells marked."""
        if set(message) - {"role", "content"} or not all(
            isinstance(message.get(key), str) for key in ("role", "content")
        ):
            raise UserError(f'a chat message is {{"role": text, "content": text}}, not {message!r:.80}')
        return {
            key: self._special.sub(lambda found: OPEN + found[0] + CLOSE, _unmarked(text))
            for key, text in message.items()
        }

    def _compile(self, source: str) -> jinja2.Template:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
        try:
            return environment.from_string(source)
        except jinja2.TemplateError as error:
            raise UserError(f"{self.folder}: its chat template is no Jinja template: {error}") from error


def _unmarked(text: str) -> str:
    return text.replace(OPEN, "").replace(CLOSE, "")


def _source(folder: Path, config: Mapping[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    source = config.get("chat_template")
    if isinstance(source, list):  # several by name
        source = {entry.get("name"): entry.get("template") for entry in source}.get("default")
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
