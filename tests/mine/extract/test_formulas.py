import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.mine.extract.formulas import mark_formulas
from dsm_jax.mine.extract.page_text import page_text

LATEXML = '<math alttext="{}" display="{}"><semantics><mi>rendered</mi></semantics></math>'
KATEX = (
    '<span class="katex"><span class="katex-mathml"><math><semantics><mrow><mi>rendered</mi></mrow>'
    '<annotation encoding="application/x-tex">{}</annotation></semantics></math></span>'
    '<span class="katex-html" aria-hidden="true"><span class="mord">rendered</span></span></span>'
)
MATHJAX_2 = (
    '<span class="MathJax_Preview">rendered</span><span class="MathJax" id="MathJax-Element-1-Frame" '
    'data-mathml="<math xmlns=&quot;m&quot;><mi>rendered</mi></math>"><nobr aria-hidden="true">rendered</nobr>'
    '<span class="MJX_Assistive_MathML" role="presentation"><math><mi>r</mi></math></span></span>'
    '<script type="math/tex" id="MathJax-Element-1">{}</script>'
)
WIKIPEDIA = (
    '<span class="mwe-math-element"><span class="mwe-math-mathml-inline mwe-math-mathml-a11y" '
    'style="display: none;"><math alttext="{0}"><semantics><mi>r</mi><annotation encoding="application/x-tex">'
    '{0}</annotation></semantics></math></span><img src="https://wikimedia.org/svg/abc" '
    'class="mwe-math-fallback-image-inline" aria-hidden="true" alt="{0}"></span>'
)
WORDPRESS = '<img src="https://s0.wp.com/latex.php?latex=x&#038;bg=ffffff" alt="{}" class="latex" />'
CARRIERS = {
    "LaTeXML": LATEXML.replace('display="{}"', 'display="inline"'),
    "KaTeX": KATEX,
    "Wikipedia": WIKIPEDIA,
    "WordPress": WORDPRESS,
    "single quotes": "<math alttext='{}'><mi>rendered</mi></math>",
    "prefix m": '<m:math alttext="{}"><m:mi>rendered</m:mi></m:math>',
    "prefix mml": '<mml:math><mml:annotation encoding="TeX">{}</mml:annotation></mml:math>',
    "capitals": '<MATH ALTTEXT="{}"><MI>rendered</MI></MATH>',
    "latex2html": '<IMG WIDTH="9" HEIGHT="1" SRC="img1.png" ALT="$ {}$">',
    "inside math": "<math>{}</math>",
    "Canvas": '<img class="equation_image" data-equation-content="{}" alt="LaTeX: other" src="a">',
}


def main(inside):
    return f"<html><body><main><p>Before {inside} after.</p></main></body></html>"


def inner(page):
    """What page_text makes of the middle of `main`."""
    text = page_text(page)
    assert text.startswith("Before") and text.endswith("after."), text
    return " ".join(text.removeprefix("Before").removesuffix("after.").split())


# TeX to anybody, and no backslash before the dollar.
TEX = st.text(st.sampled_from("abxyz01 +-=<>&\"'^_{}()\\%,|"), min_size=1, max_size=30).map(
    lambda text: " ".join(f"x^{{2}} {text} x".split())
)


@pytest.mark.parametrize("carrier", CARRIERS)
@given(TEX)
def test_tex_comes_out_of_every_carrier_once_and_unchanged(carrier, tex):
    markup = CARRIERS[carrier].replace("{0}", "{}").replace("{}", html.escape(tex))
    assert inner(main(markup)) == f"${tex}$"


@given(TEX)
def test_tex_of_scripts_is_not_unescaped(tex):
    for type_, sign in (('"math/tex"', "$"), ("'math/tex; mode=display'", "$$"), ("math/tex", "$")):
        assert inner(main(f"<script type={type_}>{tex}</script>")) == f"{sign}{tex}{sign}"


@given(TEX)
def test_what_mathjax_2_drew_is_gone(tex):
    assert (
        inner(main(MATHJAX_2.replace("{}", tex) + " and " + MATHJAX_2.replace("{}", "y")))
        == f"${tex}$ and $y$"
    )


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        (r'<math display="block" alttext="a=b"><mi>a</mi></math>', "$$a=b$$"),
        (r"<math mode='display' alttext='a=b'><mi>a</mi></math>", "$$a=b$$"),
        (r'<math alttext="a&gt;b > c"><mi>a</mi></math>', "$a>b > c$"),
        (r"<math alttext=x_1><mi>a</mi></math>", "$x_1$"),
        (r'<math alttext="$x$">a</math>', "$x$"),
        (r'<math alttext="\[x\]">a</math>', "$$x$$"),
        (r'<math alttext="\text{if $x$}">a</math>', r"$\text{if $x$}$"),
        (r'<math alttext="x\ "><mi>a</mi></math>', r"$x\ $"),
        ('<math alttext="x^%\n{2}"><mi>a</mi></math>', "$x^% {2}$"),  # with a line break after the comment
        (r'<math alttext=""><annotation encoding="application/x-latex">y</annotation></math>', "$y$"),
        (r'<math alttext="x squared"><annotation encoding="TeX">x^2</annotation></math>', "$x^2$"),
        (r'<math><annotation encoding="application/x-tex"><![CDATA[a<b]]></annotation></math>', "$a<b$"),
        (r'<math><annotation-xml encoding="MathML-Content"><ci>x</ci></annotation-xml><mi>z</mi></math>', "$z$"),
        (r'<math data-latex="x^3"><mi>x</mi></math>', "$x^3$"),
        (r"<math><msup><mi>x</mi><mn>2</mn></msup></math>", "$x^2$"),
        (r'<script type="math/tex">% <![CDATA[' + "\n" + r"a<b & c %]]></script>", "$a<b & c$"),
        (r'<script type="math/mml"><math display="block"><mfrac><mn>1</mn><mi>x</mi></mfrac></math></script>',
         r"$$\frac{1}{x}$$"),
        (r'<math alttext="lost"> kept <math alttext="x"><mi>x</mi></math>', "kept $x$"),
        (r"$y=1$ \(y\) \[z\] \begin{equation}w\end{equation}", r"$y=1$ \(y\) \[z\] \begin{equation}w\end{equation}"),
    ],
)  # fmt: skip
def test_formulas_in_markup(markup, text):
    assert inner(main(markup)) == text


def test_mathml_hidden_beside_its_image_is_main_content():
    """Nothing is lost with it, so that no full text is taken, which would have the navigation."""
    formulas = "".join(f"<p>Then {WIKIPEDIA.format(f'x_{i}')} holds for every number.</p>" for i in range(5))
    nav = '<nav class="navbar"><ul><li><a href="/">Main page</a></li></ul></nav>'
    text = page_text(f"<html><body>{nav}<article>{formulas}</article></body></html>")
    assert text.split("\n\n") == [f"Then $x_{i}$ holds for every number." for i in range(5)]


def test_a_comment_in_tex_ends_with_its_line():
    assert "x^%\n{2}" in page_text(main('<math alttext="x^%\n{2}"><mi>a</mi></math>'))
    assert "50\\% {2}" in page_text(main('<math alttext="50\\%\n{2}"><mi>a</mi></math>'))


@pytest.mark.parametrize(
    "drawn",
    [
        '<mjx-container class="MathJax"><mjx-math aria-hidden="true">x2</mjx-math><mjx-assistive-mml>{}'
        + "</mjx-assistive-mml></mjx-container>",
        '<span class="MathJax"><nobr aria-hidden="true">x2</nobr><span class="MJX_Assistive_MathML">{}</span></span>',
    ],
)
@pytest.mark.parametrize(
    "around", [main, lambda inside: f"<body>Before <div hidden>{inside}</div> after.</body>"]
)
def test_the_mathml_that_mathjax_hides_stands_for_what_it_drew(drawn, around):
    page = around(drawn.replace("{}", "<math><msup><mi>x</mi><mn>2</mn></msup></math>"))
    assert inner(page) == "$x^2$"  # in the full text too, which is taken where the formula is hidden


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (r'<img class="tex" src="a.png" alt="\int f">', r"$\int f$"),
        (r"<img class=tex alt=x_1>", "$x_1$"),
        (r'<img class="math" alt="x">', "$x$"),
        ('<IMG SRC="img2.png" ALT="\\begin{displaymath}&#10;a=b\\end{displaymath}">',
         r"\begin{displaymath} a=b\end{displaymath}"),
        (r'<img class="math" alt="$$y$$">', "$$y$$"),
        (r'<img src="https://latex.codecogs.com/gif.latex?\dpi{120}&space;\inline&space;x^2&plus;1" alt="">', "$x^2+1$"),
        (r'<img src="https://latex.codecogs.com/svg.latex?%5Calpha_1">', r"$\alpha_1$"),
        (r'<img data-src="https://s0.wp.com/latex.php?latex=x%5E2%2B1&amp;bg=ffffff">', "$x^2+1$"),
        (r'<img src="/cgi-bin/mimetex.cgi?\Large x^2" alt="">', "$x^2$"),
        (r'<img src="/mathtex.cgi?\sqrt{x}">', r"$\sqrt{x}$"),
        (r'<img src="https://chart.googleapis.com/chart?cht=tx&amp;chl=x%5E2">', "$x^2$"),
        (r'<img src="https://www.zhihu.com/equation?tex=x%5E2" alt="x^2" eeimg="1">', "$x^2$"),
        (r'<img data-latex="x^2" src="a.svg">', "$x^2$"),
        (r'<img class="tex" alt="a^2"> <img class="tex" alt="a^2">', "$a^2$ $a^2$"),  # no copies of an image
    ],
)  # fmt: skip
def test_images_of_equations(image, text):
    assert inner(main(image)).replace("$$a", "$ $a") == text


@pytest.mark.parametrize(
    "image",
    [
        '<img class="photo" src="cat.jpg" alt="a cat">',
        '<img class="math" alt="Click to enlarge">',
        '<img src="/math/logo.gif" alt="Mathematics = fun">'.replace(" = ", " is "),
        '<img src="latex-gloves.jpg" alt="Latex gloves">',
        '<img class="equation" alt="公式">',
        '<img src="shop.jpg" alt="$5 to $9">',
        '<img src="shop.jpg" alt="$5$">',
        '<img src="data:image/png;base64,latex" alt="a plot">',
    ],
)
def test_other_images_are_no_formulas(image):
    assert mark_formulas(image) == image
    assert inner(main(image)) == ""


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("x<sup>2</sup>", "x^2"),
        ("<i>x</i><sub><i>i</i></sub><sup>2</sup>", "x_i^2"),
        ("10<sup>&minus;3</sup>", "10^{-3}"),
        ("a<sub>n+1</sub>", "a_{n+1}"),
        ("(a+b)<SUP>n</SUP>", "(a+b)^n"),
        ("&alpha;<sup>2</sup>", "α^2"),
        ("f<sup>(n)</sup>", "f^{(n)}"),
        ("word<sup>1</sup>", "word1"),
        ("1<sup>st</sup> n<sup>th</sup> 5<sup>e</sup>", "1st nth 5e"),
        ("Paris<sup>[3]</sup> x<sup>[3]</sup>", "Paris[3] x[3]"),
        ("CO<sub>2</sub>", "CO2"),
        ("(Smith)<sup>1</sup> it's<sup>2</sup> caf&eacute;<sup>3</sup>", "(Smith)1 it's2 café3"),
        ("in 2019<sup>4</sup>", "in 20194"),
        ('x<sup><a href="#n">1</a></sup>', "x1"),
        ("<sup>1</sup>/<sub>2</sub>", "1/2"),
    ],
)
def test_indices_and_exponents_but_no_footnote_marks(markup, text):
    assert inner(main(markup)) == text


def test_scripts_styles_and_comments_are_no_part_of_a_page():
    hidden = '<math alttext="x">'
    page = f"<script>'{hidden}'; $('p')</script><style>{hidden}</style><!-- {hidden} -->a<b>c</b></math>"
    assert mark_formulas(page) == "a<b>c</b></math>"
    assert inner(main(page)) == "ac"


def test_figures_keep_code_tables_and_formulas_only():
    code = '<figure class="highlight"><pre><code>def f(x):\n    return x\n</code></pre></figure>'
    table = "<figure><table><tr><td>a</td><td>b</td></tr></table></figure>"
    formula = "<figure><figure><math alttext='x^2'>y</math></figure><figcaption>One</figcaption></figure>"
    picture = "<figure><img src='a.png'><figcaption>A picture</figcaption></figure>"
    text = page_text(f"<main><p>Before</p>{code}{table}{formula}{picture}<p>after.</p></main>")
    assert "def f(x):\n    return x\n" in text and "a\t\tb" in text and "$x^2$" in text
    assert "picture" not in text


def test_code_and_tables_keep_their_shape():
    code = "<pre>if x &lt; 1:\n\n    y  = $x$\n</pre>"
    table = "<table><tr><th>n</th><th>n<sup>2</sup></th></tr><tr><td>2</td><td><math alttext='4'>4</math></td></tr></table>"
    text = page_text(f"<main><p>Before</p>{code}{table}</main>")
    assert "if x < 1:\n\n    y  = $x$\n" in text
    assert re.search(r"^n\t+n\^2\n2\t+\$4\$$", text, re.MULTILINE)


PIECES = ["<math", "<math>", "</math>", "<img ", "alt=", '"', "'", ">", "<script", "</script>", "<!--", "-->"]
PIECES += [
    "<sup>",
    "</sup>",
    "<annotation ",
    "x",
    "$",
    " ",
    "<figure>",
    "</figure>",
    "<mrow>",
    "display:none",
]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_markup_is_taken(page):
    assert isinstance(page_text(page), str)
    assert mark_formulas("<p>" + page) is not None
