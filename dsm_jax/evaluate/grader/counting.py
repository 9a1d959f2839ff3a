r"""Numbers of selections in the signs of schools: C(10,5), C_{10}^{5}, {}_{10}C_5, 10C5, "10 choose 5", comb(10, 5), P(10, 3), A_{10}^{3}.

They are also names of points and of constants, so this is a second reading of an answer. Left out on purpose: letters other than C, P, A.
"""

import re

_ARGUMENT = r"\{{? ?(?P<{}>\d+|[a-z](?: ?[+-] ?\d)?) ?\}}?"
_COUNT = [
    re.compile(form.replace("N", _ARGUMENT.format("n")).replace("K", _ARGUMENT.format("k")))
    for form in (
        r"(?<![A-Za-z\\}])(?P<sign>C|P|comb|perm|binom|binomial) ?\( ?N ?, ?K ?\)",
        r"(?<![A-Za-z\\])(?:\{ ?\} ?)?[_^] ?N ?(?P<sign>[CP]) ?_ ?K",
        r"(?<![A-Za-z\\])(?P<sign>[CPA]) ?_ ?N ?\^ ?K",
        r"(?<![A-Za-z\\])(?P<sign>[CPA]) ?\^ ?K ?_ ?N",
        r"(?<![\d.A-Za-z])N ?(?P<sign>[CP]) ?K(?![\d.])",
        r"(?<![\d.A-Za-z])N (?P<sign>\\text\{ ?choose ?\}|choose) K(?![\d.])",
    )
]


def with_counts(text: str) -> str:
    """The text with binomials and falling factorials for such signs."""
    for form in _COUNT:
        text = form.sub(_count, text)
    return text


def _count(match: re.Match[str]) -> str:
    n, k = match["n"], match["k"]
    return (
        f"\\frac{{({n})!}}{{(({n})-({k}))!}}"
        if match["sign"] in ("P", "A", "perm")
        else f"\\binom{{{n}}}{{{k}}}"
    )
