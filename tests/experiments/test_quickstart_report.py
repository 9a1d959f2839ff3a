"""The quickstart's results.json, table and report.html: an invented run, and answers counted by hand."""

import base64
import importlib.util
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import pytest

from dsm_jax.evaluate.harness import Answers

HERE = Path(__file__).parent
SHARES = {"base": 0.01, "sft": 0.4, "grpo": 0.53}
CONTROLS = {"random_reward": 0.33, "shuffled_reward": 0.53, "sft_longer": 0.62}


@pytest.fixture(scope="module", autouse=True)
def scripts():
    """The scripts import each other by name, as they do when one is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE.parents[1] / "experiments"))
        yield


@pytest.fixture(scope="module")
def run_folder():
    spec = importlib.util.spec_from_file_location("run_folder", HERE / "run_folder.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Page(HTMLParser):
    """Images, tags and visible text of a page."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.images, self.tags, self.text = [], set(), ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.images += [dict(attributes)] if tag == "img" else []

    def handle_data(self, data):
        self.text += data


def report(run_folder, out, shares, **kwargs):
    from quickstart_report import write_quickstart_report

    results = run_folder.make_run(out, shares, **kwargs)
    write_quickstart_report(out, results)
    return Page(out / "report.html"), results


@pytest.fixture(scope="module")
def full(run_folder, tmp_path_factory):
    """The report of a run with controls whose models write hostile text."""
    return report(run_folder, tmp_path_factory.mktemp("full"), SHARES | CONTROLS, text=run_folder.HOSTILE)


def difference(value, low, high):
    return {"n": 1000, "value": value, "low": low, "high": high}


def test_every_picture_is_there(full):
    page, _ = full
    assert len(page.images) == 16  # 2 results, 3 levels, 5 GRPO, 3 losses, 2 mining, 1 seconds
    for image in page.images:
        assert image["alt"]
        data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"), validate=True)
        pixels = matplotlib.image.imread(io.BytesIO(data), format="png")
        assert min(pixels.shape[:2]) > 100 and pixels.std() > 0.01


@pytest.mark.slow
def test_a_browser_shows_every_picture(full, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("skipped: apt install chromium")
    page, _ = full
    probe = (
        "<script>onload = () => { document.title = [...document.images].map(i => i.naturalWidth) }</script>"
    )
    (tmp_path / "probe.html").write_text(page.source.replace("</body>", f"{probe}</body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    command = [
        browser,
        *flags,
        "--virtual-time-budget=10000",
        "--dump-dom",
        (tmp_path / "probe.html").as_uri(),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    widths = re.search(r"<title>([\d,]+)</title>", dom).group(1).split(",")
    assert len(widths) == 16 and all(int(width) > 0 for width in widths)


def test_model_text_is_escaped(full):
    page, _ = full
    assert "script" not in page.tags
    assert not any("onerror" in image for image in page.images)
    assert page.text.count('<script>alert("x")</script>') == 14  # 7 problems, answered by two models


def test_says_what_came_out(full):
    page, results = full
    greedy = {name: scores["greedy"]["value"] for name, scores in results["models"].items()}
    lead = page.text.partition("Where the gain comes from")[0]
    assert f"SFT answers {greedy['sft']:.1%} right and GRPO {greedy['grpo']:.1%}. GRPO beats SFT: +" in lead
    assert page.text.count("A control beats GRPO: SFT continued is ahead by +") == 2  # lead and section
    assert page.text.count("GRPO beats random rewards: +") == 1
    assert page.text.count("GRPO against shuffled rewards is undecided, the interval includes 0:") == 1
    gain = results["gain"]
    assert f"Elicited: on {gain['elicited']:,} of the {gain['elicited'] + gain['new']:,} gained" in page.text
    assert "of 20 planted problems 20 were caught" in page.text


def test_counts_of_the_answers(full):
    page, results = full
    models = results["models"]
    gained = round(1000 * (models["grpo"]["greedy"]["value"] - models["sft"]["greedy"]["value"]))
    words = page.text.partition("Of 1,000 greedy answers: ")[2].split()
    assert int(words[0]) - int(words[2]) == gained and words[1] == "gained," and words[3] == "lost,"


def test_without_controls_and_without_planted_problems(run_folder, tmp_path, monkeypatch):
    funnel = run_folder.funnel() | {"precision_outside_seed": None, "records_skipped": {}}
    del funnel["planted"]
    for row in funnel["iterations"]:
        row |= {"precision_outside_seed": None, "domains": []}
    monkeypatch.setattr(run_folder, "funnel", lambda: funnel)
    page, _ = report(run_folder, tmp_path, SHARES)
    assert len(page.images) == 16
    for absent in ("planted", "mathematical host", "random rewards", "SFT continued", "A control"):
        assert absent not in page.text


def test_process_supervision_has_its_section(run_folder, tmp_path, capsys):
    from quickstart_results import print_table

    page, results = report(run_folder, tmp_path, SHARES | {"process_reward": 0.61})
    assert len(page.images) == 18  # calibration and the reward's curve
    part = page.text.partition("learned to judge steps from 1,500 of these solutions")[2]
    assert "process reward model: AUC 0.620 [0.570, 0.660] over the steps of 1,234 held-out solutions" in part
    assert "labels of all steps: accuracy 70.0 [65.0, 74.0], the more frequent label alone 74.0" in part
    paired = results["paired"]["grpo-process_reward"]
    ahead = f"GRPO, process rewards too is ahead by {-100 * paired['value']:+.1f} ["
    assert page.text.count(ahead) == 3  # lead, result, section
    assert "A control beats" not in page.text and "made it worse" not in page.text
    print_table(results)
    assert "process reward model: AUC 0.620" in " ".join(capsys.readouterr().out.split())


def test_same_run_gives_the_same_bytes(run_folder, tmp_path):
    report(run_folder, tmp_path / "a", SHARES)
    report(run_folder, tmp_path / "b", SHARES)
    pages = [(tmp_path / name / "report.html").read_bytes() for name in "ab"]
    assert pages[0] == pages[1]


def test_verdicts():
    from quickstart_report import verdict

    end = " points, paired 95% interval, n = 1,000."
    undecided = "GRPO against SFT continued is undecided, the interval includes 0: "
    assert verdict("sft", difference(0.116, 0.084, 0.147)) == "GRPO beats SFT: +11.6 [+8.4, +14.7]" + end
    assert verdict("sft_longer", difference(-0.06, -0.103, -0.016)) == (
        "A control beats GRPO: SFT continued is ahead by +6.0 [+1.6, +10.3]" + end
    )
    assert verdict("sft", difference(-0.06, -0.103, -0.016)).startswith("GRPO made it worse: SFT is ahead by")
    assert verdict("sft_longer", difference(0.01, -0.02, 0.04)) == undecided + "+1.0 [-2.0, +4.0]" + end
    assert verdict("sft_longer", difference(0.01, 0.0, 0.02)).startswith(undecided)


# results.json and the table


def answered(verdicts, boxed=None):
    """One Answers per string of verdicts, "1" right and "0" wrong."""
    return [
        Answers(
            str(i),
            "chains",
            1,
            "1+1",
            "2",
            ["" for _ in row],
            [v == "1" for v in row],
            [boxed is None or boxed[i] for _ in row],
            ["2" if v == "1" else None for v in row],
        )
        for i, row in enumerate(verdicts)
    ]


def collected():
    """Six problems, four of them sampled twice; gain and differences counted by hand.

    problem        0  1  2  3  4  5
    SFT greedy     0  0  0  1  1  0
    SFT sampled    01 00 11 11
    GRPO greedy    1  1  0  0  1  1
    """
    from quickstart_results import collect

    sampled = answered(["01", "00", "11", "11"])
    answers = {
        "base": {"greedy": answered("000000", boxed=[False] * 6)},
        "sft": {"greedy": answered("000110", boxed=[False] + [True] * 5), "sampled": sampled},
        "grpo": {"greedy": answered("110011"), "sampled": answered(["11"] * 4)},
        "sft_longer": {"greedy": answered("111111")},
    }
    funnel = {"pages_in": 10, "pages_kept": 4, "precision_outside_seed": 0.9}
    return collect(answers, funnel, {"mine": 1.5, "total": 1.5})


def test_collect():
    results = collected()
    # Problem 5 is gained too, but was not sampled: nothing can be said about it.
    assert results["gain"] == {"problems": 4, "elicited": 1, "new": 1, "lost": 1}
    sft, grpo = results["models"]["sft"], results["models"]["grpo"]
    assert sft["greedy"]["n"] == 6 and sft["greedy"]["value"] == pytest.approx(2 / 6)
    assert sft["boxed"]["value"] == pytest.approx(5 / 6) and sft["greedy_boxed"]["value"] == 0.4
    assert sft["pass@2"]["n"] == 4 and sft["pass@2"]["value"] == 0.75
    # A sample without an answer does not vote, so problem 0's one answer wins.
    assert sft["maj@2"]["value"] == 0.75
    assert grpo["greedy"]["value"] == pytest.approx(4 / 6)
    assert set(results["models"]["base"]) == {"greedy", "boxed"}  # nothing in a box, no accuracy among them
    assert set(results["paired"]) == {"grpo-sft", "grpo-sft_longer"}
    assert results["paired"]["grpo-sft"]["value"] == pytest.approx(2 / 6)
    assert results["paired"]["grpo-sft_longer"]["value"] == pytest.approx(-2 / 6)
    assert results["corpus"]["precision_outside_seed"] == 0.9 and results["seconds"]["total"] == 1.5


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_print_table(capsys, monkeypatch, columns):
    """Every model of --full in 80 columns, and no number cut where the terminal has fewer."""
    from quickstart_results import print_table

    monkeypatch.setenv("COLUMNS", columns)
    results = collected()
    results["models"]["random_reward"] = results["models"]["shuffled_reward"] = results["models"]["grpo"]
    print_table(results)
    shown = capsys.readouterr().out
    for text in ("base", "sft_longer", "greedy", "boxed", "maj@2", "pass@2", "33.3", "66.7", "100.0"):
        assert text in shown
    assert "grpo-sft: +33.3 [" in shown and "grpo-sft_longer: -33.3 [" in shown
    assert "corpus: 4 of 10 pages kept" in " ".join(shown.split())
    assert "…" not in shown and "shuffled_reward" in shown
    assert max(map(len, shown.splitlines())) <= max(80, int(columns))


def test_words_on_the_gain():
    from quickstart_report import _gain

    results = collected()
    assert _gain(results)[0].endswith("is right on 2 that SFT's missed, and wrong on 1 that SFT had right.")
    assert _gain(results)[1] == (
        "Elicited: on 1 of the 2 gained, one of SFT's 2 samples was right already. New: on 1, none was."
    )
    results["gain"] = {"problems": 4, "elicited": 0, "new": 0, "lost": 1}
    assert _gain(results)[1] == "Nothing was gained."
