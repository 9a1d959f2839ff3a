"""The solutions of a generated problem: worked out in words, as a program, and by tool in ToRA's form.

All three come from the problem's plan. A tool-integrated solution says what to find, computes it in a ```python
block, shows in an ```output block exactly what that prints, and boxes the answer; some from level 4 on take two
rounds, the second of which starts from what the first printed. Every block is a whole program: builtins, math,
fractions, and sympy for equations. Nothing is executed here.
Left out on purpose: programs that fail and are mended in a second round.
"""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

from dsm_jax.data.families import Draft
from dsm_jax.data.families.worked import Line, Number, work
from dsm_jax.data.wordings import WORDS, Told

LONG = 4  # lines of a plan from which on a tool-integrated solution may take two rounds
# Kinds whose quantities are not named, by the sentence that leads to their code.
LEADS = {"largest": "larger", "positive_root": "roots", "larger_root": "roots", "smaller_root": "roots"}
AND = {"en": " and ", "zh": "以及"}
COMMA = {"en": ", ", "zh": "、"}


def chain_of_thought(draft: Draft, told: Told, language: str, level: int) -> str:
    """The steps, one a line, from level 2 on with what they find, and a last line that boxes the answer."""
    lines: list[str] = []
    labels = told.labels if level > 1 else ()
    for i, (_, op, left, right) in enumerate(draft.plan):
        a, b = _value(draft, left), _value(draft, right)
        steps = [step.text for step in work(op, a, b, draft.values[draft.plan[i].key])]
        if steps and i < len(labels):
            steps[-1] = f"{_capital(labels[i])}{': ' if language == 'en' else '：'}{steps[-1]}"
        lines += steps
    return "\n".join([*lines, closing(draft, language)])


def closing(draft: Draft, language: str) -> str:
    return str(WORDS[language].CLOSING.format(answer=draft.answer))


def program(draft: Draft, told: Told) -> str:
    """A short self-contained program that prints the answer."""
    if draft.sympy:
        return _sympy(draft)
    if draft.kind == "value":
        return _imports(_expression(draft.form)) + f"result = {_expression(draft.form)}\nprint(result)"
    if draft.kind in ("larger", "largest"):
        fractions = ", ".join(_literal(value) for value in draft.slots.values())
        return f"from fractions import Fraction\n\nresult = max({fractions})\nprint(result)"
    return _block(draft, told, draft.plan, (), (draft.plan[-1].key,))


def tool_solution(draft: Draft, told: Told, language: str, level: int, choice: int) -> str:
    """Reasoning, code, its output and the answer; `choice` is any number, it picks wording and rounds."""
    words, end = WORDS[language], closing(draft, language)
    unnamed = words.UNNAMED.get(LEADS.get(draft.kind, draft.kind))
    two = level >= 4 and len(draft.plan) >= LONG and (draft.kind == "story" or not unnamed)
    if not (two and choice % 2):
        one = (
            _pick(unnamed, choice)
            if unnamed
            else _lead(told.labels, words.FIRST, words.ONLY, language, choice)
        )
        return f"{one}\n{_round(program(draft, told), (draft.answer,))}{end}"
    middle = len(draft.plan) // 2
    first, second = draft.plan[:middle], draft.plan[middle:]
    carried = _needed(first, second)
    if unnamed:
        leads = (_pick(unnamed, choice), _pick(words.CARRY, choice))
    else:
        leads = (
            _lead(told.labels[:middle], words.FIRST, words.ONLY, language, choice),
            _lead(told.labels[middle:], words.THEN, words.THEN, language, choice),
        )
    start = _round(_block(draft, told, first, (), carried), [draft.values[key] for key in carried])
    go_on = _round(_block(draft, told, second, carried, (draft.plan[-1].key,)), (draft.answer,))
    return f"{leads[0]}\n{start}{leads[1]}\n{go_on}{end}"


def _round(code: str, printed: Sequence[Number]) -> str:
    output = "\n".join(map(str, printed))
    return f"```python\n{code}\n```\n```output\n{output}\n```\n"


def _pick(choices: Sequence[str], choice: int) -> str:
    return choices[choice // 2 % len(choices)]


def _lead(
    labels: Sequence[str], several: Sequence[str], one: Sequence[str], language: str, choice: int
) -> str:
    """The sentence that says what a block finds: its last quantity, and at most three on the way."""
    shown = list(labels) if language == "zh" else [_with_article(label) for label in labels]
    if several is one or len(shown) == 1:
        return _pick(one, choice).format(_join(shown[-3:], language))
    return _pick(several, choice).format(_join(shown[:-1][:3], language), shown[-1])


def _join(items: Sequence[str], language: str) -> str:
    return AND[language].join(filter(None, (COMMA[language].join(items[:-1]), items[-1])))


def _with_article(label: str) -> str:
    return (
        label if label.startswith(("twice", "four times", "a hundred", "that ", "all ")) else f"the {label}"
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _value(draft: Draft, operand: str | int) -> Number:
    return draft.values[operand] if isinstance(operand, str) else operand


def _needed(first: Sequence[Line], second: Sequence[Line]) -> tuple[str, ...]:
    """The quantities of the first lines that the second need."""
    used = {operand for line in second for operand in (line.left, line.right)}
    return tuple(line.key for line in first if line.key in used)


def _block(
    draft: Draft, told: Told, lines: Sequence[Line], known: Sequence[str], printed: Sequence[str]
) -> str:
    """Assignments of the operands that these lines take (and of `known`), the lines, and prints."""
    names = told.variables
    used = {operand for line in lines for operand in (line.left, line.right)}
    inputs = [key for key in (*draft.slots, *known) if key in used and key in names]
    code = [f"{names[key]} = {_literal(draft.values[key])}" for key in inputs]
    code += [f"{names[line.key]} = {_operation(draft, line, names)}" for line in lines]
    code += [f"print({names[key]})" for key in printed]
    text = "\n".join(code)
    return _imports(text) + text


def _operation(draft: Draft, line: Line, names: Mapping[str, str]) -> str:
    a, b = (names.get(str(key)) or _literal(_value(draft, key)) for key in (line.left, line.right))
    if line.op == "/":
        if draft.values[line.key].denominator == 1:
            return f"{a} // {b}"
        whole = all(_value(draft, key).denominator == 1 for key in (line.left, line.right))
        return f"Fraction({a}, {b})" if whole else f"{a} / {b}"
    if line.op in ("gcd", "lcm"):
        return f"math.{line.op}({a}, {b})"
    if line.op == "pct":
        return f"{a} * {b} // 100"
    if line.op == "root":
        return f"math.isqrt({a})"
    return f"{a} { {'mod': '%', '^': '**'}.get(line.op, line.op) } {b}"


def _literal(value: Number) -> str:
    return f"Fraction({value.numerator}, {value.denominator})" if isinstance(value, Fraction) else str(value)


def _imports(code: str) -> str:
    lines = ["import math"] * ("math." in code) + ["from fractions import Fraction"] * ("Fraction(" in code)
    return "\n".join(lines) + "\n\n" if lines else ""


def _expression(form: str) -> str:
    """Bare mathematics in Python: fractions exact, spaces around its operations."""
    return re.sub(
        r"(\d+)/(\d+)|([-+*])", lambda m: f" {m[3]} " if m[3] else f"Fraction({m[1]}, {m[2]})", form
    )


def _sympy(draft: Draft) -> str:
    """The equation or equations as they stand, solved by sympy."""
    if draft.kind == "equation":
        solved = f"(solution,) = solve({_spaced(draft.sympy)}, x)\nprint(solution)"
        return f'from sympy import Eq, solve, symbols\n\nx = symbols("x")\n{solved}'
    if draft.kind == "system":
        solved = f"solution = solve([{_spaced(draft.sympy)}], [x, y])\nprint(solution[x])"
        return f'from sympy import Eq, solve, symbols\n\nx, y = symbols("x y")\n{solved}'
    best = "min" if draft.kind == "smaller_root" else "max"
    equation = _spaced(draft.sympy).replace("^", "**")
    return (
        'from sympy import solve, symbols\n\nx = symbols("x")\n'
        f"roots = solve({equation}, x)\nprint({best}(roots))"
    )


def _spaced(equation: str) -> str:
    return re.sub(r"(?<=[\w)])([-+*])", r" \1 ", equation)
