import pytest

from dsm_jax.mine.extract import decode, mark_formulas, page_text


def body(inside):
    return f"<html><body><main><p>Before {inside} after.</p></main></body></html>"


@pytest.mark.parametrize(
    ("inside", "tex"),
    [
        (r'<math alttext="x^{2}&lt;\frac{1}{2}"><mi>x</mi></math>', r"$x^{2}<\frac{1}{2}$"),
        (
            r'<math><mi>x</mi><annotation encoding="application/x-tex">x_1</annotation></math>',
            "$x_1$",
        ),
        (r'<math display="block" alttext="a=b"><mi>a</mi></math>', "$$a=b$$"),
        (r'<script type="math/tex">a<b</script>', "$a<b$"),
        (r'<script type="math/tex; mode=display">a+b</script>', "$$a+b$$"),
        (r'<img class="tex" src="a.png" alt="\int f">', r"$\int f$"),
        (r'<img src="https://latex.codecogs.com/a.gif" alt="$e^x$">', "$e^x$"),
        (r"$y=1$", "$y=1$"),
        (r"\(y=1\)", r"\(y=1\)"),
    ],
)
def test_formulas_come_out_as_tex(inside, tex):
    assert page_text(body(inside)).split() == f"Before {tex} after.".split()


def test_rendered_copies_of_a_formula_are_dropped():
    katex = (
        '<span class="katex"><span class="katex-mathml"><math><semantics><mi>x</mi><annotation '
        'encoding="application/x-tex">x</annotation></semantics></math></span>'
        '<span class="katex-html" aria-hidden="true"><span>RENDERED</span></span></span>'
    )
    mathjax = '<span class="MathJax_Preview">RENDERED</span><script type="math/tex">y</script>'
    assert page_text(body(katex + " and " + mathjax)).split() == ["Before", "$x$", "and", "$y$", "after."]


def test_ordinary_images_are_no_formulas():
    page = '<img class="photo" src="cat.jpg" alt="a cat">'
    assert mark_formulas(page) == page


def test_proofs_written_as_lists_survive_main_content_removal():
    items = "".join(
        f'<li><a href="#">step</a> <math alttext="x_{{{i}}}=0"><mi>x</mi></math></li>' for i in range(20)
    )
    page = f"<html><body><nav><ul>{items}</ul></nav><main><p>Proof.</p></main></body></html>"
    assert page_text(page).count("$x_") == 20


@pytest.mark.parametrize(
    ("content", "charset"),
    [
        ("<html>näh 数学</html>".encode(), "utf-8"),
        ("<html>数学题目</html>".encode("gb18030"), "gb2312"),
        ('<html><head><meta charset="gbk"></head>数学题目</html>'.encode("gbk"), None),
        ("<html>näh</html>".encode("latin-1"), "iso-8859-1"),
        (b"<html>\xff\xfe\x00broken", "no-such-charset"),
    ],
)
def test_charsets_declared_wrong_or_missing_never_fail(content, charset):
    text = decode(content, charset)
    assert text.startswith("<html>")
    if charset != "no-such-charset":
        assert "�" not in text and ("数学" in text or "näh" in text)
