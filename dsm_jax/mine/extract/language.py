"""The language of a text: by a fastText model that the user brings, else by its script.

Without a model Chinese, Japanese and Korean are told by their characters (kana make Han characters Japanese);
for other scripts the answer is the script's ISO 15924 code in lower case ("latn", "cyrl", "arab"), "zzzz" where
it is none of the known ones. Han characters count one each, other letters by the word, so that TeX and a few
English words do not make a Chinese page Latin.

Left out on purpose: several languages in one text, models of other libraries, downloading a model.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fasttext

from dsm_jax.errors import UserError

_LOOKED_AT = 2_000  # characters of a text
_KANA_SHARE = 0.1  # of kana and Han, from which on they are Japanese
_PREFIX = "__label__"
_TEX_COMMAND = re.compile(r"\\[A-Za-z]+")
_HAN, _KANA = (
    re.compile(r"[\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]"),
    re.compile(r"[\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\uff66-\uff9d]"),
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_SCRIPTS = {
    "latn": "A-Za-zª-ʯᴀ-ᶿḀ-ỿ",
    "cyrl": "Ѐ-ԯ",
    "grek": "Ͱ-Ͽἀ-῿",
    "arab": "ؠ-ۿݐ-ݿࢠ-ࣿﭐ-﷿ﹰ-ﻼ",
    "hebr": "א-ת",
    "deva": "ऀ-ॿ",
    "beng": "ঀ-৿",
    "taml": "஀-௿",
    "thai": "ก-๛",
    "geor": "Ⴀ-ჿ",
    "armn": "Ա-֏",
    "ko": "가-힣ᄀ-ᇿㄱ-ㆎ",
}
_LETTERS = {name: re.compile(f"[{letters}]") for name, letters in _SCRIPTS.items()}
_NOT_LATIN = re.compile(rf"[^\W\d_{_SCRIPTS['latn']}]")


@dataclass(frozen=True)
class LanguageModel:
    """A fastText classifier with labels such as __label__en."""

    model: Any


def load_language_model(path: Path) -> LanguageModel:
    """Loads a fastText classifier (.bin or .ftz). Raises UserError for a missing file or one that is none."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"--language-model {path}: no such file; give a fastText model such as lid.176.bin")
    try:
        model = fasttext.load_model(str(path))
        labels = model.get_labels()
        model.predict(["1"], k=1)  # a file that was cut loads, and fails here
    except (ValueError, RuntimeError, MemoryError) as error:
        raise UserError(
            f"--language-model {path}: no fastText classifier, or not a whole one ({error}); download it again"
        ) from None
    if not labels or not all(label.startswith(_PREFIX) for label in labels):
        raise UserError(
            f"--language-model {path}: its labels are not like {_PREFIX}en; give a model of languages"
        )
    return LanguageModel(model)


def language_of(text: str, model: LanguageModel | None = None) -> str:
    """The language ("en"; without a model "zh", "ja", "ko" or a script); "" for a text without letters."""
    return languages_of([text], model)[0]


def languages_of(texts: Sequence[str], model: LanguageModel | None = None) -> list[str]:
    """language_of for many texts: models are asked in lists."""
    shown = [text[:_LOOKED_AT] for text in texts]
    if model is None:
        return list(map(_script_of, shown))
    lines = [" ".join(_TEX_COMMAND.sub(" ", text).split()) for text in shown]
    labels, _ = model.model.predict(lines, k=1)
    return [
        of_line[0].removeprefix(_PREFIX) if of_line and any(map(str.isalpha, line)) else ""
        for of_line, line in zip(labels, lines, strict=True)
    ]


def _script_of(text: str) -> str:
    if text.isascii() or not _NOT_LATIN.search(text):
        return "latn" if any(map(str.isalpha, text)) else ""
    words = _TEX_COMMAND.sub(" ", text)
    han, kana = len(_HAN.findall(words)), len(_KANA.findall(words))
    counts = {"zh": han, "ja": 0} if kana < _KANA_SHARE * (han + kana) else {"zh": 0, "ja": han + kana}
    others = _HAN.sub(" ", _KANA.sub(" ", words)) if han or kana else words
    for letter, count in Counter(word[0] for word in _WORD.findall(others)).items():
        name = _script_of_letter(letter)
        counts[name] = counts.get(name, 0) + count
    best = max(counts, key=lambda name: counts[name])
    if counts[best]:
        return best
    letters = [letter for letter in text if letter.isalpha()]
    return _script_of_letter(letters[0]) if letters else ""


def _script_of_letter(letter: str) -> str:
    return next((name for name, letters in _LETTERS.items() if letters.match(letter)), "zzzz")
