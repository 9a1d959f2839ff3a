"""report.html: well formed, escaped, reproducible, its pictures readable; a browser shows them all."""

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib.image
import pytest

from dsm_jax.evaluate.figures import (
    calibration_curves,
    curves,
    horizontal_bars,
    interval_bars,
    metric_points,
)
from dsm_jax.evaluate.report import Marked, Section, Table, write_report
from dsm_jax.evaluate.scores import share

HOSTILE = '<script>alert("x")</script> & $x_$ \\frac{ \0 \ud800 \x1b[31m 中文 "><img src=x onerror=1>'
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Checks that tags nest, and keeps images and visible text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.stack, self.images, self.tags, self.words = [], [], set(), []
        self.feed(text)
        self.close()
        assert not self.stack, self.stack

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attributes))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def sections():
    rows = [{"step": step, "loss": 5 / (step + 1), "reward": step / 100} for step in range(100)]
    points = metric_points(rows, "loss")
    groups = {
        name: {"SFT": share([True, False] * 50), "GRPO": share([True, True, False] * 33)}
        for name in ("all", "chains", HOSTILE)
    }
    return [
        Section(
            "Training",
            (
                "First paragraph.\n\nSecond paragraph.",
                curves("Loss of pretraining", {"pretrain": points, "sft": points[:50]}, ylabel="loss"),
                curves("Reward", {"reward": metric_points(rows, "reward")}),
            ),
        ),
        Section(
            "Mining", (horizontal_bars("Pages", {"read": 4000, "kept": 812, HOSTILE: 3.25}, of_first=True),)
        ),
        Section("Accuracy", (interval_bars("Greedy accuracy", groups),)),
        Section(HOSTILE, (HOSTILE, Table(("before", "n"), ((HOSTILE, "12"), ("7 + 5 = 12\n12", "3"))))),
    ]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, "Quickstart", HOSTILE, sections())
    return path


def test_structure(report):
    page = Page(report.read_text(encoding="utf-8"))
    assert {"main", "nav", "section", "table", "figure", "figcaption"} <= page.tags
    assert len(page.images) == 4
    for image in page.images:
        kind, data = image["src"].split(",", 1)
        assert kind == "data:image/png;base64" and image["alt"]
        pixels = matplotlib.image.imread(io.BytesIO(base64.b64decode(data)), format="png")
        assert min(pixels.shape[:2]) > 100 and pixels.std() > 0.01


def test_all_text_is_escaped(report):
    text = report.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert not any("onerror" in image for image in page.images)
    shown = "".join(page.words)
    assert shown.count('<script>alert("x")</script>') == 5  # lead, link, heading, paragraph, cell
    assert "\0" not in text and "\x1b" not in text and "中文" in shown
    assert "http" not in text


def test_body_is_well_formed_xml(report):
    text = report.read_text(encoding="utf-8")
    body = re.search(r"<main>.*</main>", text, re.DOTALL).group()
    root = ElementTree.fromstring(re.sub(r"(<img [^>]*)>", r"\1/>", body))
    assert len(root.findall("section")) == 4
    assert [p.text for p in root.find("section").findall("p")] == ["First paragraph.", "Second paragraph."]


def test_numbers_go_to_the_right(report):
    text = report.read_text(encoding="utf-8")
    assert (
        '<td class="number">12</td>' in text
        and '<th class="number">n</th>' in text
        and "<th>before</th>" in text
    )


def test_same_numbers_give_the_same_bytes(report, tmp_path):
    write_report(tmp_path / "report.html", "Quickstart", HOSTILE, sections())
    assert (tmp_path / "report.html").read_bytes() == report.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_empty_series_and_rows(tmp_path):
    parts = (
        curves("No steps yet", {"loss": []}),
        horizontal_bars("Nothing", {}, of_first=True),
        horizontal_bars("Zero", {"read": 0, "kept": 0}, of_first=True),
        interval_bars("Nothing", {}),
        calibration_curves("Nothing", {"none": []}),
        Table(("a",), ()),
        "",
    )
    write_report(tmp_path / "report.html", "Empty", "", [Section("Empty", parts)])
    assert len(Page((tmp_path / "report.html").read_text()).images) == 5


def test_calibration_curves_are_drawn_alike_from_equal_numbers():
    series = {HOSTILE: [(0.1, share([True, False])), (0.9, share([True] * 8))], "none": []}
    first, second = (calibration_curves("Calibration", series, ylabel=HOSTILE) for _ in range(2))
    assert first == second and first.caption == "Calibration"
    pixels = matplotlib.image.imread(io.BytesIO(first.png))
    other = calibration_curves("Calibration", {HOSTILE: series[HOSTILE][:1]})
    assert pixels.shape[2] == 4 and first.png != other.png


def test_metric_points_skip_rows_without_the_column():
    assert metric_points([{"step": 1, "a": 2}, {"step": 2}, {"step": 3, "a": None}], "a") == [(1, 2)]


@pytest.mark.slow
def test_a_browser_shows_every_image(report, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("skipped: apt install chromium")
    probe = (
        "<script>onload = () => { document.title = 'widths: ' + "
        "[...document.images].map(image => image.naturalWidth).join(' ') }</script>"
    )
    page = tmp_path / "probe.html"
    page.write_text(
        report.read_text(encoding="utf-8").replace("</body>", f"{probe}</body>"), encoding="utf-8"
    )
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    dom = subprocess.run(
        [*command, "--virtual-time-budget=10000", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    widths = re.search(r"<title>widths: ([\d ]+)</title>", dom).group(1).split()
    assert len(widths) == 4 and all(int(width) > 0 for width in widths)


def test_a_marked_text_keeps_its_lines_and_is_escaped(tmp_path):
    text = Marked(((" 3+4=7", "good"), (f"\n{HOSTILE}", "bad"), (" 0 (00)", "soft"), ("\nend", "")))
    write_report(tmp_path / "report.html", "Marked", "", [Section("One", (text,))])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "script" not in Page(page).tags
    assert '<p class="marked"><span class="good"> 3+4=7</span><span class="bad">\n&lt;script&gt;' in page
    assert page.count("<span") == 3 and "</span>\nend</p>" in page
