"""The families of the problem generator: operands, worked steps and the exact answer, without words.

A family is a few kinds of problem, each at some levels; `draw` takes one of them at random. Levels 1 to 5 bound the
operands (about 9, 20, 40, 100, 300) and the length: two or three steps at first, six to eight at last.
"""

import random
from collections.abc import Callable, Mapping

from dsm_jax.data.families import formulas, tables
from dsm_jax.data.families.tables import Kind
from dsm_jax.data.families.worked import LEVELS, Draft, Step

__all__ = ["FAMILIES", "LEVELS", "Draft", "Step", "draw"]

Build = Callable[[int, random.Random], Draft]

# Of each family: what is built, with its weight among the kinds by level; and what is drawn by a table.
_BUILT: Mapping[str, Mapping[Build, str]] = {
    "chains": {formulas.story: "12345"},
    "calculations": {formulas.calculation: "12345"},
    "fractions": {formulas.fraction_value: "1122334455", formulas.share: "123", formulas.spending: "45"},
    "equations": {formulas.equation: "1223345"},
    "rates": {},
    "percentages": {},
    "comparisons": {formulas.larger: "12345"},
    "systems": {formulas.system: "12345"},
    "divisibility": {},
    "sequences": {},
    "geometry": {},
    "averages": {},
    "ratios": {},
    "probability": {},
    "quadratics": {formulas.quadratic: "123345"},
}
_TABLES: Mapping[str, Mapping[str, Kind]] = {
    "rates": tables.RATES,
    "percentages": tables.PERCENTAGES,
    "comparisons": tables.COMPARISONS,
    "equations": tables.EQUATIONS,
    "systems": tables.SYSTEMS,
    "divisibility": tables.DIVISIBILITY,
    "sequences": tables.SEQUENCES,
    "geometry": tables.GEOMETRY,
    "averages": tables.AVERAGES,
    "ratios": tables.RATIOS,
    "probability": tables.PROBABILITY,
    "quadratics": tables.QUADRATICS,
}
FAMILIES = tuple(_BUILT)


def _choices(family: str, level: int) -> tuple[Build, ...]:
    built = [build for build, levels in _BUILT[family].items() for _ in range(levels.count(str(level)))]
    table = _TABLES.get(family, {})
    drawn = [_drawer(name, kind) for name, kind in table.items() if str(level) in kind.levels]
    return (*built, *drawn)


def _drawer(name: str, kind: Kind) -> Build:
    return lambda level, rng: tables.draw_kind(name, kind, level, rng)


_CHOICES = {(family, level): _choices(family, level) for family in FAMILIES for level in LEVELS}


def draw(family: str, level: int, rng: random.Random) -> Draft:
    """A random draft of a family (one of FAMILIES) and a level (one of LEVELS)."""
    return rng.choice(_CHOICES[family, level])(level, rng)
