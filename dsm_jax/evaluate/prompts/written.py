"""The end of every program-of-thought program: its answer printed as the grader reads it.

The source of `written` is put behind the model's program and runs in the sandbox, so it stands alone.
Left out on purpose: any judgement of the answer.
"""


def written(value: object) -> str:
    """One item without its list, LaTeX for sympy's expressions, and 1/3 for 0.3333333333333333.

    A float within 1e-9 of a fraction with a denominator up to 1,000 is written as that fraction: programs divide, and
    gold answers are exact.
    """
    from fractions import Fraction

    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple) and len(value) > 1:
        return f"({', '.join(written(item) for item in value)})"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(written(item) for item in value)
    if getattr(value, "is_Float", False):
        value = float(value)  # type: ignore[arg-type]
    if isinstance(value, float) and abs(value) < 1e12:
        near = Fraction(value).limit_denominator(1000)
        return str(near) if abs(float(near) - value) <= 1e-9 * max(1.0, abs(value)) else repr(float(value))
    if type(value).__module__.startswith("sympy."):
        from sympy import latex

        return str(latex(value))
    return str(value)
