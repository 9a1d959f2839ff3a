"""Main content, fallbacks, and hostile pages."""

import json
import subprocess
import sys

import pytest

from dsm_jax.mine.extract.page_text import page_text


def test_navigation_goes_and_the_article_stays():
    links = "".join(f'<li><a href="/{i}">Section {i}</a></li>' for i in range(20))
    nav = f'<nav class="navbar"><ul>{links}</ul></nav>'
    article = "<article><h1>Rings</h1><p>A ring $R$ is a group.</p></article>"
    footer = '<footer class="footer">All rights reserved</footer>'
    assert page_text(f"<html><body>{nav}{article}{footer}</body></html>") == "Rings\n\nA ring $R$ is a group."


def test_proofs_written_as_lists_survive_main_content_removal():
    items = "".join(
        f'<li><a href="#">step</a> <math alttext="x_{{{i}}}=0"><mi>x</mi></math></li>' for i in range(20)
    )
    page = f"<html><body><nav><ul>{items}</ul></nav><main><p>Proof.</p></main></body></html>"
    assert page_text(page).count("$x_") == 20


def test_prices_are_no_formulas():
    prices = "".join(f'<li><a href="#">shoes for ${i}.99</a></li>' for i in range(20))
    page = f"<html><body><nav><ul>{prices}</ul></nav><main><p>Story, $5.</p></main></body></html>"
    assert page_text(page) == "Story, $5."


@pytest.mark.parametrize(
    "page", ["", " ", "\0", "<", "text $x$", "<html></html>", "<frameset><frame></frameset>"]
)
def test_pages_without_a_body(page):
    assert page_text(page) in ("", "<", "text $x$")


HOSTILE = r"""
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from dsm_jax.mine.extract.page_text import page_text
n = 50_000
numbered = lambda piece: "".join(piece.replace("#", str(i)) for i in range(n))
pages = {
    "100,000 <math": "<math" * (2 * n),
    "100,000 <math ": "<math " * (2 * n),
    "100,000 <math>": "<math>" * (2 * n),
    "one </math>": "<math>" * n + "</math>",
    "annotations": "<math>" + "<annotation encoding='TeX'>" * n + "</math>",
    "one tag of annotation": "<math><annotation " + "encoding=tex " * n + "</math>",
    "rows": "<math>" + "<mrow>" * n + "</mrow>" * n + "</math>",
    "many rows": ("<math>" + "<mrow>" * 1000 + "x" * 1000 + "</math>") * 50,
    "comments in formulas": ("<math><mi>x</mi>" + "<!--" * 1000 + "</math>") * 50,
    "nested divs": "<div>" * n,
    "nested divs, text": "<div>x" * n,
    "closed divs": "<div>x" * n + "</div>" * n,
    "formatting": "<p>" + numbered("<b id=#>") + "<p>x" * n,
    "wrong ends": numbered("<p><b id=#></i>x"),
    "little formatting": ("<p>" + "".join(f"<b id={i}>" for i in range(500)) + "<p>x" * 500) * 20,
    "fonts": "<font size=1><p>x" * n,
    "10 MB of <img": "<img" * 2_500_000,
    "images": "<img " * n,
    "images without end": "<img alt='" * n + '<img alt="' * n,
    "equations": "<img class=tex alt=x^2>" * n,
    "classes": "<img " + "class=class=" * n + ">",
    "data": "<img class=tex src=data:" + "a" * 1_000_000 + ">",
    "attributes": "<p " + numbered("a#='' ") + ">",
    "attributes with brackets": "<p " + numbered("a#='>' ") + ">",
    "names": "<p " + numbered("a# ") + ">",
    "scripts": "<script>" * n,
    "scripts without end": "<script " * n + "</script>",
    "tex scripts": '<script type="math/tex">' * n,
    "comments": "<!--" * n,
    "katex": '<span class="katex"><span class="katex-mathml"><math alttext="x">x</math></span></span>' * 10_000,
    "assistive": "<mjx-container>" + "<mjx-assistive-mml><math alttext='x'>x</math></mjx-assistive-mml>" * 10_000,
    "hidden": "<span style='display:none'>" * n + "<math alttext='x'>x</math>",
    "indices": "x<sup>2</sup>" * n + "<sup>" * n,
    "tables": "<table><tr><td>" * n,
    "figures": "<figure>" * n + "$x$" + "</figure>" * n,
    "lists": "<ul><li>" * n,
    "options": "<p>x<select>" + "<Option value=1>x</option>" * 2 * n + "</select>" + "<optgroup><option>x" * n,
    "entities": "&lt;math" * n + "&" * n,
    "line comments": '<math alttext="' + "%\n" * n + '">x</math>',
    "dollars": "$" * n + "\\" * n + "\\(" * n,
    "spaces": " " * (20 * n) + "<sup>" + " " * (20 * n) + "</sup>",
}
seconds = {}
for name, page in pages.items():
    start = time.process_time()
    assert isinstance(page_text(page), str)
    seconds[name] = round(time.process_time() - start, 2)
    print(name, seconds[name], file=sys.stderr, flush=True)
json.dump(seconds, sys.stdout)
"""


def test_hostile_pages_take_linear_time():
    """Quadratic time would be minutes a page: 50,000 times 50,000 steps. A crash would end the process."""
    command = [sys.executable, "-c", HOSTILE]
    run = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    seconds = json.loads(run.stdout)
    assert len(seconds) == 41
    assert {name: s for name, s in seconds.items() if s > 8} == {}


def test_pages_that_nest_too_deep_keep_their_text_and_formulas():
    """What a parser would take minutes for is read without one, also just below and far above the limit."""
    for depth in (100, 700, 3_000):
        page = "<div>" * depth + "<p>deep <math alttext='x^2'>x</math></p><p>down</p>" + "</div>" * depth
        assert page_text(page).split() == ["deep", "$x^2$", "down"]


@pytest.mark.parametrize("sign", ["则", "–", "−", "∈", "の", "x", "é", "则则"])
def test_a_character_alone_in_its_element_stays(sign):
    page = f"<html><body><main><p>设 x 为实数,<b>{sign}</b>有 x 的平方。</p><p>第二段 <i> {sign} </i></p></main></body></html>"
    assert page_text(page) == f"设 x 为实数,{sign}有 x 的平方。\n\n第二段 {sign}"
