"""Real pages: how many of their formulas are in the text."""

import html
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from resiliparse.extract.html2text import extract_plain_text

from dsm_jax.mine.extract.page_text import decode, mark_formulas, page_text
from dsm_jax.mine.web.read import index_warc, read_block


class Formulas(HTMLParser):
    """The TeX of a page's MathML: annotation, else alttext; found by the standard library's parser."""

    def __init__(self, page):
        super().__init__()
        self.tex, self.reading = [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag.endswith("math"):
            self.tex.append(attributes.get("alttext") or "")
        elif tag == "annotation" and "tex" in (attributes.get("encoding") or "") and self.tex:
            self.tex[-1], self.reading = "", True

    def handle_endtag(self, tag):
        self.reading = self.reading and tag != "annotation"

    def handle_data(self, data):
        if self.reading:
            self.tex[-1] += data


def squeezed(text):
    return " ".join(text.split())


def kept(tex, text):
    """How many of a page's formulas are in its text between dollars, each as often as in the page."""
    text = squeezed(text)
    return sum(min(count, text.count(f"${one}$")) for one, count in Counter(map(squeezed, tex)).items())


@pytest.fixture(scope="module")
def pages(dsm_data):
    found = []
    for warc in sorted((dsm_data / "web").glob("*.warc.gz")):
        for block in index_warc(warc)[0]:
            found += [(page.url, decode(page.body, page.charset)) for page in read_block(block).pages]
    assert len(found) == 1849
    return found


def test_the_formulas_of_mathml_pages_are_in_their_texts(pages, capsys):
    shares, total, there = [], 0, 0
    for url, page in pages:
        tex = [one for one in Formulas(page).tex if one.strip()] if "</math" in page else []
        if tex:
            n = kept(tex, page_text(page))
            shares.append((n / len(tex), len(tex), url))
            total, there = total + len(tex), there + n
    shares.sort()
    with capsys.disabled():
        print(f"\n{there} of {total} formulas in the texts of {len(shares)} pages; the worst pages:")
        print("".join(f"  {share:.3f} of {n}: {url}\n" for share, n, url in shares[:5]))
    assert len(shares) == 765 and total > 20_000
    assert there >= 0.997 * total  # the bar is 0.98
    assert shares[0][0] >= 0.75 and sum(share < 0.98 for share, _, _ in shares) <= 15


def test_four_fifths_of_the_formula_marks_survive_on_every_page(pages):
    """Against the full text that resiliparse makes of the same marked HTML."""
    dollars = re.compile(r"\$(?!\d)")
    for url, page in pages[::2]:
        if "$" in page or "<math" in page:
            full = extract_plain_text(mark_formulas(page), main_content=False, alt_texts=False)
            assert len(dollars.findall(page_text(page))) >= 0.8 * len(dollars.findall(full)), url


def test_source_that_is_text_already_survives(pages):
    """bookofproofs.github.io has $..$ and \\(..\\) in its text; more than 95% are there, and none twice."""
    total = there = 0
    for url, page in pages:
        if "bookofproofs" not in url:
            continue
        shown = re.sub(r"<script.*?</script>|<style.*?</style>|<!--.*?-->", "", page, flags=re.DOTALL)
        tex = [
            squeezed(html.unescape(one))
            for one in re.findall(r"(?<![\\$])\$[^$<>]+\$(?!\$)|\\\([^<>]*?\\\)", shown)
        ]
        text = squeezed(page_text(page))
        counts = Counter(tex)
        total += len(tex)
        there += sum(min(count, text.count(one)) for one, count in counts.items())
    assert total > 2_000
    assert there >= 0.95 * total
