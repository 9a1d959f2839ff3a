"""Kinds of problems that are a plan with drawn operands: one line each.

A draw is read from left to right: "a:s" draws the operand a from a range, "a=U*b" computes it (capitals do
not stand in the question), "a!c" and "a<c" ask that two differ or are in order. Operands stand in the
question in the order of their letters. Ranges: s 2 to 9, l 2 to the level's operand, w up to its largest
value, t tens, h hundreds, p percent, v a speed, m marks of 40 to 90; or written out, "3-6".
"""

import random
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

from dsm_jax.data.families.worked import (
    FACTOR,
    OPERAND,
    RESULT,
    Draft,
    Number,
    operate,
    parse_plan,
    work_plan,
)


class Kind(NamedTuple):
    """How operands are drawn, the plan, its levels, and whether every value on the way is a whole number."""

    draw: str
    plan: str
    levels: str
    whole: bool = True


RATES = {
    "two_parts": Kind("a:s b:l c:s d:l a!c", "p=a*b q=c*d t=p+q", "123"),
    "proportion": Kind("a:s U:l b=U*a c:s a!c", "u=b/a t=u*c", "123"),
    "change": Kind("a:s b:l c:s d:l a!c E=a*b F=c*d G=E+F H:l e=G+H", "p=a*b q=c*d s=p+q t=e-s", "34"),
    "meeting": Kind("b:v c:v b!c T:s S=b+c a=S*T", "s=b+c t=a/s", "45"),
    "three_parts": Kind("a:s b:l c:s d:l e:s f:l a!c c!e a!e", "p=a*b q=c*d r=e*f s=p+q t=s+r", "4"),
    "head_start": Kind("b:v c:2-4 d:v b!d T:2-6 S=b+d R=S*T P=b*c a=R+P", "p=b*c r=a-p s=b+d t=r/s", "5"),
    "three_change": Kind(
        "a:s b:l c:s d:l e:s f:l a!c c!e a!e A=a*b B=c*d C=e*f D=A+B E=D+C F:l g=E+F",
        "p=a*b q=c*d r=e*f s=p+q u=s+r t=g-u",
        "5",
    ),
}

PERCENTAGES = {
    "part": Kind("a:t b:p", "t=a.pct.b", "123"),
    "less": Kind("a:t b:p", "p=a.pct.b t=a-p", "123"),
    "more": Kind("a:t b:p", "p=a.pct.b t=a+p", "123"),
    "whole": Kind("a:p T:t b=T.pct.a", "p=b*100 t=p/a", "34"),
    "of_rest": Kind("a:h b:p c:p", "p=a.pct.b r=a-p t=r.pct.c", "4"),
    "up_down": Kind("a:h b:p c:p b!c", "p=a.pct.b r=a+p q=r.pct.c t=r-q", "45"),
    "order": Kind("a:s b:h c:p d:5-9", "p=a*b q=p.pct.c r=p-q s=r.pct.d t=r+s", "5"),
}

COMPARISONS = {
    "difference": Kind("a:s b:l c:s d:l", "p=a*b q=c*d t=p-q", "123"),
    "difference_more": Kind("a:s b:l c:l d:s e:l f:l a!d b!e c!f", "p=a*b q=p+c r=d*e s=r+f t=q-s", "4"),
    "difference_days": Kind(
        "a:s b:l c:s d:l e:s f:l g:s h:l b!d f!h", "p=a*b q=c*d r=p+q s=e*f u=g*h v=s+u t=r-v", "5"
    ),
}

EQUATIONS = {
    "number_plus": Kind("a:s b:l T:l P=a*T c=P+b", "q=c-b t=q/a", "23"),
    "number_minus": Kind("a:s b:l T:l P=a*T c=P-b", "q=c+b t=q/a", "23"),
    "same_after": Kind("a:l b:l d:2-20 d<b T:s D=b-d E=D*T c=a+E", "p=c-a q=b-d t=p/q", "45"),
    "number_back": Kind("T:l a:l b:s c:l d:s P=T+a Q=P*b R=Q-c e=R/d b!d", "p=e*d q=p+c r=q/b t=r-a", "45"),
}

SYSTEMS = {
    "sum_larger": Kind("T:l U:l U<T a=T+U b=T-U", "p=a+b t=p/2", "12"),
    "sum_smaller": Kind("T:l U:l T<U a=T+U b=U-T", "p=a-b t=p/2", "12"),
    "heads_legs": Kind("C:l T:l a=C+T X=C*2 Y=T*4 b=X+Y", "p=a*2 q=b-p t=q/2", "23"),
    "tickets": Kind("b:l c:l c<b T:l U:l a=T+U X=b*T Y=c*U d=X+Y", "p=a*c q=d-p r=b-c t=q/r", "34"),
    "pair_prices": Kind(
        "T:l U:l a:s b:s d:s e:s X=a*e Y=d*b Y<X A=a*T B=b*U c=A+B D=d*T E=e*U f=D+E",
        "p=c*e q=f*b r=p-q u=a*e v=d*b w=u-v t=r/w",
        "45",
    ),
}

DIVISIBILITY = {
    "left_over": Kind("a:w b:s", "t=a.mod.b", "1"),
    "full_boxes": Kind("a:w b:s", "r=a.mod.b s=a-r t=s/b", "12"),
    "boxes_needed": Kind("a:w b:s", "r=a.mod.b s=a-r q=s/b t=q+1", "23"),
    "gcd": Kind("G:s M:s N:s M!N a=G*M b=G*N", "t=a.gcd.b", "123"),
    "gcd_bags": Kind("G:s M:s N:s M!N a=G*M b=G*N", "t=a.gcd.b", "23"),
    "lcm": Kind("a:4-24 b:4-24 A=a.mod.b B=b.mod.a", "t=a.lcm.b", "123"),
    "lcm_buses": Kind("a:4-24 b:4-24 A=a.mod.b B=b.mod.a", "t=a.lcm.b", "23"),
    "mod_value": Kind("a:l b:l c:l d:5-13", "p=a*b q=p+c t=q.mod.d", "345"),
    "bag_content": Kind("G:s M:s N:s M!N a=G*M b=G*N", "g=a.gcd.b p=a/g q=b/g t=p+q", "4"),
    "lcm_three": Kind(
        "G:2-9 M:2-5 N:2-5 H:2-5 a=G*M b=G*N c=G*H A=a.mod.b B=b.mod.a L=a.lcm.b C=L.mod.c",
        "m=a.lcm.b t=m.lcm.c",
        "45",
    ),
    "lcm_rest": Kind(
        "G:2-6 M:2-5 N:2-5 H:2-5 a=G*M b=G*N c=G*H d:2-5 d<a d<b d<c A=a.mod.b B=b.mod.a L=a.lcm.b C=L.mod.c",
        "m=a.lcm.b n=m.lcm.c t=n+d",
        "5",
    ),
}

SEQUENCES = {
    "term": Kind("a:l D:s b=a+D C=b+D c=C+0 d:5-30", "e=b-a p=d-1 q=p*e t=a+q", "123"),
    "falling_term": Kind("a:l D:s b=a-D c=b-D d:12-60", "e=b-a p=d-1 q=p*e t=a+q", "45", False),
    "last_row": Kind("a:l b:s c:4-20", "p=c-1 q=p*b t=a+q", "12"),
    "all_rows": Kind("a:l b:s c:4-20", "p=c-1 q=p*b r=a+q s=a+r u=s*c t=u/2", "34"),
    "growth": Kind("a:l b:2-4 c:2-4", "q=b^c t=a*q", "23"),
    "all_days": Kind("a:l b:3-5 c:3-5", "q=b^c r=q-1 s=a*r u=b-1 t=s/u", "45"),
    "row_tickets": Kind("a:l b:s c:4-20 d:s", "p=c-1 q=p*b r=a+q s=a+r u=s*c v=u/2 t=v*d", "5"),
}

GEOMETRY = {
    "perimeter": Kind("a:l b:l b<a", "s=a+b t=s*2", "1"),
    "box": Kind("a:s b:s c:s", "p=a*b t=p*c", "12"),
    "triangle": Kind("a:l b:l", "p=a*b t=p/2", "12"),
    "width": Kind("b:l T:l T<b S=b+T a=S*2", "h=a/2 t=h-b", "23"),
    "area_left": Kind("a:l b:l b<a c:s d:s d<c c<b", "p=a*b q=c*d t=p-q", "23"),
    "fence_cost": Kind("a:l b:l c:s b<a", "s=a+b p=s*2 t=p*c", "23"),
    "tank": Kind("a:s b:s c:s d:s", "p=a*b q=p*c t=q/d", "34"),
    "path": Kind("a:l b:l b<a c:2-5", "p=c*2 q=a+p r=b+p s=q*r u=a*b t=s-u", "4"),
    "path_cost": Kind("a:l b:l b<a c:2-5 d:s", "p=c*2 q=a+p r=b+p s=q*r u=a*b v=s-u t=v*d", "5"),
}

AVERAGES = {
    "mean_three": Kind("a:l b:l c:l", "p=a+b q=p+c t=q/3", "1"),
    "mean_four": Kind("a:l b:l c:l d:l", "p=a+b q=p+c r=q+d t=r/4", "23"),
    "new_mean": Kind("a:s b:m J:s R=a+1 Z=J*R c=b+Z", "p=a*b q=p+c r=a+1 t=q/r", "34"),
    "mean_needed": Kind("a:s b:m J:2-5 c=b+J", "p=a*b r=a+1 q=r*c t=q-p", "34"),
    "two_groups": Kind("a:3-15 c:3-15 a!c T:m b=T+c d=T-a", "p=a*b q=c*d r=p+q s=a+c t=r/s", "4"),
    "one_leaves": Kind(
        "a:3-8 c:3-8 a!c T:m b=T+c d=T-a S=a+c V=S-1 J:1-3 Z=J*V e=T+Z",
        "p=a*b q=c*d r=p+q s=a+c u=r-e v=s-1 t=u/v",
        "5",
    ),
}

RATIOS = {
    "given_part": Kind("a:s b:s a!b G=a.gcd.b G<2 U:l c=U*a", "u=c/a t=u*b", "12"),
    "share_two": Kind("b:s c:s G=b.gcd.c G<2 S=b+c U:l a=S*U", "s=b+c u=a/s t=u*b", "12"),
    "share_three": Kind(
        "b:s c:s d:s b!c c!d b!d G=b.gcd.c H=G.gcd.d H<2 S=b+c R=S+d U:l a=R*U",
        "s=b+c r=s+d u=a/r t=u*b",
        "34",
    ),
    "share_more": Kind(
        "b:s c:s c<b D=b-c 1<D G=b.gcd.c G<2 S=b+c U:l a=S*U", "s=b+c u=a/s p=b-c t=u*p", "34"
    ),
    "whole_from_more": Kind("a:s b:s a<b G=a.gcd.b G<2 U:l D=b-a 1<D c=U*D", "p=b-a u=c/p s=a+b t=u*s", "45"),
    "mixture": Kind(
        "a:s b:s c:s a!b b!c G=a.gcd.b H=G.gcd.c H<2 U:l d=U*a e:s",
        "u=d/a p=u*b q=u*c r=d+p s=r+q t=s*e",
        "5",
    ),
}

PROBABILITY = {
    "draw_one": Kind("a:s b:s", "s=a+b t=a/s", "12", False),
    "outfits": Kind("a:s b:s c:s", "p=a*b t=p*c", "12"),
    "draw_not": Kind("a:s b:s c:s", "s=a+b r=s+c q=b+c t=q/r", "23", False),
    "handshakes": Kind("a:4-40", "p=a-1 q=a*p t=q/2", "34"),
    "prizes": Kind("a:5-20", "p=a-1 q=a-2 r=a*p t=r*q", "34"),
    "both": Kind("a:3-12 b:3-12", "s=a+b p=a-1 q=s-1 f=a/s g=p/q t=f*g", "4", False),
    "one_each": Kind("a:3-15 b:3-15", "s=a+b q=s-1 f=a*b g=f*2 h=s*q t=g/h", "5", False),
    "at_least": Kind("a:3-15 b:3-15", "s=a+b p=b-1 q=s-1 f=b/s g=p/q h=f*g t=1-h", "5", False),
}

QUADRATICS = {
    "square_fence": Kind("T:l a=T*T", "s=a.root.2 t=s*4", "123"),
    "square_left": Kind("b:s c:s b!c T:3-15 A=T*T B=b*c a=A+B", "p=b*c q=a-p t=q.root.2", "23"),
    "neighbours": Kind("T:l U=T+1 a=T*U", "p=a*4 q=p+1 r=q.root.2 s=r-1 t=s/2", "4"),
    "longer_side": Kind("a:l T:l S=T+a b=T*S", "p=a*a q=b*4 r=p+q s=r.root.2 u=s-a t=u/2", "45"),
    "longer_length": Kind("a:l T:l S=T+a b=T*S", "p=a*a q=b*4 r=p+q s=r.root.2 u=s-a v=u/2 t=v+a", "5"),
}

_TENTHS = (10, 20, 30, 40, 50, 60, 70, 80, 90)
_PERCENTS = {1: _TENTHS, 2: _TENTHS, **dict.fromkeys((3, 4, 5), (*_TENTHS, 5, 15, 25, 75))}
RANGES: Mapping[str, Callable[[int, random.Random], Number]] = {
    "s": lambda level, rng: rng.randint(2, FACTOR),
    "l": lambda level, rng: rng.randint(2, OPERAND[level]),
    "w": lambda level, rng: rng.randint(OPERAND[level] + 2, RESULT[level]),
    "t": lambda level, rng: 10 * rng.randint(1, OPERAND[level]),
    "h": lambda level, rng: 100 * rng.randint(2, 20),
    "p": lambda level, rng: rng.choice(_PERCENTS[level]),
    "v": lambda level, rng: 5 * rng.randint(3, 20),
    "m": lambda level, rng: rng.randint(40, 90),
}


class Draw(NamedTuple):
    """One part of a draw: `op` is ":" (drawn from `left` to `right`, or a named range), "!", "<" or an operation."""

    key: str
    op: str
    left: str | int
    right: str | int


@cache
def _parse_draw(text: str) -> tuple[Draw, ...]:
    parts = []
    for part in text.split():
        if "=" in part:
            parts.append(Draw(*parse_plan(part)[0]))
        elif ":" in part:
            key, source = part.split(":")
            low, _, high = source.partition("-")
            parts.append(Draw(key, ":", int(low), int(high)) if high else Draw(key, ":", source, ""))
        else:
            parts.append(Draw("", part[1], *(int(one) if one.isdigit() else one for one in part[::2])))
    return tuple(parts)


def draw_kind(name: str, kind: Kind, level: int, rng: random.Random) -> Draft:
    """A problem of this kind: operands from 2 on, values within the level's bounds, whole where the kind asks."""
    while True:
        slots = _draw_slots(_parse_draw(kind.draw), level, rng)
        if slots is None:
            continue
        draft = work_plan(name, slots, parse_plan(kind.plan))
        if not kind.whole or fits(draft, level):
            return draft


def fits(draft: Draft, level: int) -> bool:
    """Whether every value on the way is a whole number from 1 to the level's bound."""
    return all(isinstance(value, int) and 1 <= value <= RESULT[level] for value in draft.found())


def _draw_slots(parts: tuple[Draw, ...], level: int, rng: random.Random) -> dict[str, Number] | None:
    """The operands in the order of their letters; None where the draw breaks a condition."""
    values: dict[str, Number] = {}

    def value(operand: str | int) -> Number:
        return values[operand] if isinstance(operand, str) else operand

    for key, op, left, right in parts:
        if op == ":":
            values[key] = RANGES[left](level, rng) if isinstance(left, str) else rng.randint(left, int(right))
        elif op in "!<":
            if value(left) == value(right) or (op == "<" and value(left) > value(right)):
                return None
        else:
            values[key] = operate(op, value(left), value(right))
            if values[key] < 1 or values[key].denominator > 1:
                return None
    slots = {key: values[key] for key in sorted(values) if key.islower()}
    return slots if min(slots.values()) >= 2 else None
