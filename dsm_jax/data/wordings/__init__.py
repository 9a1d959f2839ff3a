"""How a problem is put into words, in English and Chinese, and which problems may use which words.

A kind of problem has scenarios, a scenario its sentences, a sentence a few phrasings. The phrasings chosen are the
problem's surface form. Where their numbers, counted from 0, add up to 2, 6, 10, .. the form is the test split's,
else it is for training: a test problem's form stands in no problem to train on, though each of its phrasings does.
Bare mathematics (a scenario of one sentence) has no form of its own: it is held out by its worked steps alone.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dsm_jax.data.families import Draft
from dsm_jax.data.wordings import chinese, english

LANGUAGES = ("en", "zh")
WORDS = {"en": english, "zh": chinese}
SEPARATOR = {"en": " ", "zh": ""}
EASY = 2  # at level 1 a sentence has so many phrasings, and a story is of so many kinds of things
EASY_THINGS = 4

Phrasings = tuple[str, ...]


@dataclass(frozen=True)
class Scenario:
    """The sentences of one setting; `turns` those of a story's operations, before the last sentence."""

    number: int
    labels: tuple[str, ...]
    sentences: list[Phrasings] = field(default_factory=list)
    turns: dict[str, Phrasings] = field(default_factory=dict)

    def parts(self, draft: Draft) -> list[Phrasings]:
        """The sentences in the order of the story."""
        if not self.turns:
            return self.sentences
        return [self.sentences[0], *(self.turns[line.op] for line in draft.plan), self.sentences[-1]]

    def tells(self, draft: Draft) -> bool:
        return not self.turns or all(line.op in self.turns for line in draft.plan)


class Told(NamedTuple):
    """A problem's question, its surface form ("" for bare mathematics) and what its quantities are called."""

    question: str
    surface: str
    labels: tuple[str, ...]  # of the plan's lines, where they have a name
    variables: Mapping[str, str]  # in a program, by the plan's key; an operand without one stands as a number


def _read(text: str, comma: str) -> dict[str, list[Scenario]]:
    kinds: dict[str, list[Scenario]] = {}
    for line in filter(None, text.splitlines()):
        if line.startswith("["):
            scenarios = kinds.setdefault(line.strip("[]"), [])
        elif line.startswith("="):
            labels = tuple(filter(None, (label.strip() for label in line[1:].split(comma))))
            scenarios.append(Scenario(len(scenarios), labels))
        elif line[1] == " " and line[0] in "+-*/":
            scenarios[-1].turns[line[0]] = tuple(line[2:].split(" | "))
        else:
            scenarios[-1].sentences.append(tuple(line.split(" | ")))
    return kinds


def _names_and_labels(text: str) -> tuple[dict[str, list[Scenario]], dict[str, list[tuple[str, ...]]]]:
    """English scenarios with the labels of quantities, and apart from them the names of operands."""
    kinds = _read(text, ";")
    names: dict[str, list[tuple[str, ...]]] = {}
    for kind, scenarios in kinds.items():
        halves = [[tuple(half.split(", ")) for half in scenario.labels] for scenario in scenarios]
        names[kind] = [half[0] if half else () for half in halves]
        kinds[kind] = [
            Scenario(one.number, half[1] if len(half) > 1 else (), one.sentences, one.turns)
            for one, half in zip(scenarios, halves, strict=True)
        ]
    return kinds, names


_ENGLISH, _NAMES = _names_and_labels(english.TEXT)
SCENARIOS: Mapping[str, Mapping[str, list[Scenario]]] = {"en": _ENGLISH, "zh": _read(chinese.TEXT, "，")}


def tell(draft: Draft, language: str, level: int, test: bool, rng: random.Random) -> Told:
    """The draft in words: of a surface form of the test split, or of one to train on."""
    scenarios = [one for one in SCENARIOS[language][draft.kind] if one.tells(draft)]
    while True:
        scenario = rng.choice(scenarios)
        parts = scenario.parts(draft)
        if level == 1 and len(parts) > 1:
            parts = [part[:EASY] for part in parts]
        choice = [rng.randrange(len(part)) for part in parts]
        if len(parts) == 1 or is_test_form(choice) == test:
            break
    phrases = [part[i] for part, i in zip(parts, choice, strict=True)]
    slots = _slots(language, level, rng)
    operands = _operands(draft, phrases, language)
    told = [phrase.format(**slots, **own) for phrase, own in zip(phrases, operands, strict=True)]
    surface = "" if len(parts) == 1 else SEPARATOR[language].join(phrases)
    labels = tuple(label.format(**slots) for label in scenario.labels)
    return Told(SEPARATOR[language].join(told), surface, labels, _variables(draft, scenario, slots))


def is_test_form(choice: list[int]) -> bool:
    """Whether the phrasings with these numbers make a form of the test split.

    Two sentences with two phrasings suffice for forms on both sides, with every phrasing among those to train on.
    """
    return sum(choice) % 4 == 2


def _operands(draft: Draft, phrases: list[str], language: str) -> list[Mapping[str, object]]:
    """What stands in each sentence: all operands, or of a story the one that its turn tells."""
    if draft.kind != "story":
        form = draft.form if language == "en" else draft.form.replace(", ", "，")
        return [{**draft.slots, "form": form}] * len(phrases)
    turns = [{"b": draft.slots[str(line.right)]} for line in draft.plan]
    return [{"a": draft.slots["a"]}, *turns, {}]


def _slots(language: str, level: int, rng: random.Random) -> dict[str, str]:
    """Two people and a thing; `english_*` are their English names, for programs."""
    count = EASY_THINGS if level == 1 else len(english.ITEMS)
    one, two = rng.sample(range(count), 2)
    item, words = rng.randrange(count), WORDS[language]
    return {
        "name": words.NAMES[one],
        "other": words.NAMES[two],
        "item": words.ITEMS[item],
        "unit": words.UNITS[item],
        "thing": words.ITEMS[item].removeprefix(words.UNITS[item]),
        "english_name": english.NAMES[one],
        "english_other": english.NAMES[two],
        "english_item": english.ITEMS[item],
    }


def _variables(draft: Draft, scenario: Scenario, slots: Mapping[str, str]) -> dict[str, str]:
    """Names of variables: the operands' and quantities', or of a story its one thing's."""
    things = {key: slots[f"english_{key}"] for key in ("name", "other", "item")}
    names = _NAMES[draft.kind][scenario.number]
    labels = _ENGLISH[draft.kind][scenario.number].labels
    if draft.kind == "story":
        keys, labels = ["a", *(line.key for line in draft.plan)], names * len(draft.plan)
    else:
        keys = [*draft.slots, *(line.key for line in draft.plan)]
    found = zip(keys, (*names, *labels), strict=False)
    return {key: name.format(**things).lower().replace(" ", "_") for key, name in found}
