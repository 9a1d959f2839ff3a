import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.mine.extract.mathml import MAX_CHARACTERS, mathml_to_tex


@pytest.mark.parametrize(
    ("mathml", "tex"),
    [
        ("<msup><mi>x</mi><mn>2</mn></msup>", "x^2"),
        ("<msup><mi>x</mi><mn>12</mn></msup>", "x^{12}"),
        ("<msub><mi>a</mi><mrow><mi>n</mi><mo>+</mo><mn>1</mn></mrow></msub>", "a_{n+1}"),
        ("<msup><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mn>2</mn></msup>", "{a+b}^2"),
        ("<msup><mi>f</mi><mo>&#x2032;</mo></msup><mo>(</mo><mi>x</mi><mo>)</mo>", "f'(x)"),
        ("<mfrac><mi>a</mi><mrow><mi>b</mi><mo>+</mo><mn>1</mn></mrow></mfrac>", r"\frac{a}{b+1}"),
        ("<mfrac linethickness='0'><mi>n</mi><mi>k</mi></mfrac>", r"{n \atop k}"),
        ("<msqrt><mi>y</mi><mo>-</mo><mn>1</mn></msqrt><mroot><mi>x</mi><mn>3</mn></mroot>", r"\sqrt{y-1}\sqrt[3]{x}"),
        ("<msubsup><mo>&int;</mo><mn>0</mn><mi>&infin;</mi></msubsup><mi>x</mi>", r"\int_0^\infty x"),
        ("<msup><mi>e</mi><mrow><mo>&minus;</mo><mi>&alpha;</mi><mi>x</mi></mrow></msup>", r"e^{-\alpha x}"),
        (
            "<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover><mi>i</mi>",
            r"\sum_{i=1}^n i",
        ),
        ("<munder><mi>lim</mi><mrow><mi>x</mi><mo>→</mo><mn>0</mn></mrow></munder>", r"\lim_{x\to 0}"),
        ("<mi>sin</mi><mo>&#x2061;</mo><mi>x</mi><mo>≤</mo><mi>λ</mi>", r"\sin x\le\lambda"),
        ("<mover><mi>x</mi><mo>&#xAF;</mo></mover><mover><mi>v</mi><mo>→</mo></mover>", r"\overline{x}\vec{v}"),
        ("<mover><mo>=</mo><mtext>def</mtext></mover>", r"\overset{\text{def}}{=}"),
        ("<mi>ℝ</mi><mi>𝐱</mi><mi mathvariant='double-struck'>Z</mi><mi>𝑥</mi>", r"\mathbb{R}\mathbf{x}\mathbb{Z}x"),
        ("<mfenced open='[' close=')'><mi>a</mi><mi>b</mi></mfenced>", "[a,b)"),
        ("<mo>{</mo><mn>50</mn><mo>%</mo><mtext> of $1 </mtext><mo>}</mo>", r"\{50\%\text{ of \$1 }\}"),
        (
            "<mtable><mtr><mtd><mi>a</mi></mtd><mtd><mn>0</mn></mtd></mtr><mtr><mtd/><mtd><mi>b</mi></mtd></mtr></mtable>",
            r"\begin{matrix}a & 0 \\  & b\end{matrix}",
        ),
        ("<mmultiscripts><mi>X</mi><mi>a</mi><none/><mprescripts/><mi>b</mi><mi>c</mi></mmultiscripts>", "{}_b^cX_a"),
        ("<semantics><mi>x</mi><annotation-xml><ci>no</ci></annotation-xml></semantics>", "x"),
        ("<m:msup><m:mi>x</m:mi><m:mn>2</m:mn></m:msup>", "x^2"),
        ("<mi>x</mi><!-- <mi>y</mi> --><mi mathvariant=italic>z</mi>", "xz"),
        ("<mi>mod</mi><mi>p</mi><mtext>若</mtext>", r"\mathrm{mod}p\text{若}"),
    ],
)  # fmt: skip
def test_elements(mathml, tex):
    assert mathml_to_tex(mathml) == tex


@pytest.mark.parametrize("broken", ["</mrow>", "<mfrac>", "<mi>", "<msup/>", "<mprescripts/>", "<", "<!--"])
def test_broken_markup_adds_nothing(broken):
    assert mathml_to_tex(broken) == ""
    assert mathml_to_tex(f"<mi>x</mi>{broken}") == "x"


def test_a_formula_that_is_too_long_is_not_converted():
    one = "<mi>x</mi>"
    assert mathml_to_tex(one * (MAX_CHARACTERS // len(one))) == "x" * (MAX_CHARACTERS // len(one))
    assert mathml_to_tex(one * (MAX_CHARACTERS // len(one) + 1)) == ""


# Arithmetic: the value of an expression written as MathML is the value of the TeX that comes out, read by a small
# recursive reader of TeX.
NUMBERS = st.integers(1, 20).map(lambda n: (f"<mn>{n}</mn>", Fraction(n)))


def combine(children):
    two = st.tuples(children, children)
    fraction = two.filter(lambda ab: ab[1][1] != 0).map(
        lambda ab: (f"<mfrac><mrow>{ab[0][0]}</mrow><mrow>{ab[1][0]}</mrow></mfrac>", ab[0][1] / ab[1][1])
    )
    total = two.map(lambda ab: (f"<mo>(</mo>{ab[0][0]}<mo>+</mo>{ab[1][0]}<mo>)</mo>", ab[0][1] + ab[1][1]))
    product = two.map(lambda ab: (f"<mrow>{ab[0][0]}<mo>⋅</mo>{ab[1][0]}</mrow>", ab[0][1] * ab[1][1]))
    power = st.tuples(children, st.integers(0, 3)).map(
        lambda an: (
            (f"<msup><mfenced>{an[0][0]}</mfenced><mrow><mn>{an[1]}</mn></mrow></msup>", an[0][1] ** an[1])
            if "<mo>" not in an[0][0]
            else (
                f"<msup><mfenced><mrow>{an[0][0]}</mrow></mfenced><mn>{an[1]}</mn></msup>",
                an[0][1] ** an[1],
            )
        )
    )
    return st.one_of(fraction, total, product, power)


def value_of(tex):
    """The value of TeX made of numbers, +, \\cdot, ^, \\frac, parentheses and braces."""
    tokens = re.findall(r"\d+|\\[a-z]+|[-+^(){}]", tex)

    def total():
        result = product()
        while tokens and tokens[0] == "+":
            tokens.pop(0)
            result += product()
        return result

    def product():
        result = power()
        while tokens and tokens[0] == r"\cdot":
            tokens.pop(0)
            result *= power()
        return result

    def power():
        result = atom()
        while tokens and tokens[0] == "^":
            tokens.pop(0)
            result = result ** int(atom())
        return result

    def atom():
        token = tokens.pop(0)
        if token == r"\frac":
            return atom() / atom()
        if token in ("(", "{"):
            inside = total()
            assert tokens.pop(0) == {"(": ")", "{": "}"}[token]
            return inside
        return Fraction(int(token))

    result = total()
    assert not tokens
    return result


@given(st.recursive(NUMBERS, combine, max_leaves=12))
def test_the_tex_of_arithmetic_has_its_value(expression):
    mathml, value = expression
    assert value_of(mathml_to_tex(f"<mrow>{mathml}</mrow>")) == value
