"""The annotation page in a real browser, served by the command; and what mining makes of its decisions."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dsm_jax.mine.annotate.annotations import Decision, append_decision, read_annotations
from dsm_jax.mine.loop.iterate import iteration_folder
from tests.mine import mining_runs
from tests.mine.annotate.candidate_files import invented_pages, page, write_iteration

pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install -e .[browser]")
from playwright.sync_api import Browser, Page, expect, sync_playwright

pytestmark = pytest.mark.slow

expect.set_options(timeout=20_000)  # a machine may be busy
SCRIPT = Path(__file__).parents[3] / "experiments" / "annotate_urls.py"
AS_IN_A_TERMINAL = ("env", "--default-signal=INT")  # tests in the background have Ctrl-C ignored
HOSTILE = "<script>window.hacked = 1; alert(1)</script><img src=x onerror='window.hacked = 1'>"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("skipped: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def run(tmp_path) -> Path:
    """Domains from most to least to gain: mixed.org, flat.org, hostile.example."""
    rng = random.Random(0)
    folders = {"maths/algebra/": (20, 0.8), "maths/": (20, 0.75), "shop/": (60, 0.2), "forum/": (9, 0.3)}
    hostile = [
        page(f"https://hostile.example/{HOSTILE}/{i}", 0.5, False, HOSTILE + " title") for i in range(3)
    ]
    hostile += [page("javascript:window.hacked=1//hostile.example", 0.5, False, "a link")]
    pages = {
        "mixed.org": invented_pages("mixed.org", folders, rng),
        "flat.org": invented_pages("flat.org", {"": (40, 0.6)}, rng),
        "hostile.example": hostile,
    }
    write_iteration(tmp_path, 1, pages)
    return tmp_path


class Command:
    """`annotate_urls.py` in a process of its own."""

    def __init__(self, run: Path, by: str, port: int = 0):
        options = [str(run), "--by", by, "--port", str(port), "--no-browser"]
        self.process = subprocess.Popen(
            [*AS_IN_A_TERMINAL, sys.executable, SCRIPT, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        said = self.process.stdout.readline()
        self.url = re.search(r"http://127\.0\.0\.1:\d+/", said)[0]
        self.port = int(self.url.rstrip("/").rpartition(":")[2])

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def command() -> Iterator[Callable[..., Command]]:
    started: list[Command] = []

    def start(*args, **options) -> Command:
        started.append(Command(*args, **options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.fixture
def visit(chromium) -> Iterator[Callable[[str], Page]]:
    """Opens pages in contexts of their own; a dialog or a script's error fails the test."""
    contexts, trouble = [], []

    def open_page(url: str) -> Page:
        contexts.append(chromium.new_context(viewport={"width": 1400, "height": 800}))
        page = contexts[-1].new_page()
        page.on("dialog", lambda dialog: (trouble.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.goto(url)
        expect(page.locator(".sample").first).to_be_visible()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not trouble


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def chosen(page: Page, kind: str) -> str:
    return page.locator(f".{kind}[aria-selected=true]").inner_text()


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "annotations.jsonl").read_text().splitlines()]


def open_prefix(page: Page, name: str) -> None:
    """By keys: into the tree, and down to the row."""
    press(page, "Enter")
    for _ in range(20):
        if name in chosen(page, "prefix"):
            break
        press(page, "j")
    expect(page.locator("#prefix-name")).to_contain_text(name)


def test_a_prefix_accepted_by_key_is_there_after_a_reload(run, command, visit):
    page = visit(command(run, "ann").url)
    expect(page.locator("#progress-text")).to_have_text("decided 0 of 3 domains")
    open_prefix(page, "maths/")
    press(page, "a")
    expect(page.locator("#saving")).to_have_text("✓ saved")
    (row,) = rows(run)
    assert (row["prefix"], row["accept"], row["by"]) == ("mixed.org/maths/", True, "ann")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["at"])
    page.reload()
    expect(page.locator("#prefix-name")).to_have_text("mixed.org/maths/")
    expect(page.locator("#votes")).to_contain_text("accepted by ann (you)")
    expect(page.locator("#progress-text")).to_have_text("decided 1 of 3 domains")
    expect(page.locator(".prefix", has_text="algebra/").locator(".mark")).to_have_class(
        "mark accepted inherited"
    )
    assert read_annotations([run / "annotations.jsonl"]).verdict("https://mixed.org/maths/algebra/1") is True


def test_a_prefix_accepted_by_key_joins_the_seed_of_the_next_iteration(crawl, tmp_path, command, visit):
    run, config = tmp_path / "run", replace(mining_runs.CONFIG, domain_min_pages=2, keep_share=0.3)
    mining_runs.run(run, crawl, replace(config, iterations=1))
    server = command(run, "ann")
    page = visit(server.url)
    press(page, "a")
    expect(page.locator("#saving")).to_have_text("✓ saved")
    prefix = page.locator("#prefix-name").inner_text()
    page.reload()
    expect(page.locator("#prefix-name")).to_have_text(prefix)
    expect(page.locator("#votes")).to_contain_text("accepted by ann (you)")
    assert server.end() == 0
    mining_runs.run(run, crawl, replace(config, iterations=2))
    standing = json.loads((iteration_folder(run, 2) / "annotations.json").read_text())
    assert {name: (row["accept"], row["votes"][0]["by"]) for name, row in standing.items()} == {
        prefix: (True, "ann")
    }
    first, second = (np.load(iteration_folder(run, number) / "seed.npy") for number in (1, 2))
    kept = np.load(iteration_folder(run, 1) / "kept.npy")
    under = [
        re.match(rf"https://(www\.)?{re.escape(prefix)}", row["url"]) is not None
        for row in mining_runs.page_rows(run, "url")
    ]
    joined = second & ~first
    assert joined.any() and np.array_equal(joined, under & ~first & ~kept)


def test_undo_withdraws_ones_own_decision_only(run, command, visit):
    append_decision(run / "annotations.jsonl", Decision("mixed.org/", False, "bob"))
    page = visit(command(run, "ann").url)
    press(page, "u")
    expect(page.locator("#notice")).to_contain_text("Nothing of yours to undo here: the decision is by bob")
    press(page, "r")
    expect(page.locator("#votes")).to_contain_text("rejected by ann (you)")
    press(page, "u")
    expect(page.locator("#votes")).not_to_contain_text("ann")
    expect(page.locator("#votes")).to_contain_text("rejected by bob")
    assert [(row["by"], row["accept"]) for row in rows(run)] == [
        ("bob", False),
        ("ann", False),
        ("ann", None),
    ]
    page.reload()
    expect(page.locator("#votes")).to_contain_text("rejected by bob")
    assert len(rows(run)) == 3


def test_two_annotators_and_their_conflict(run, command, visit):
    ann, bob = (visit(command(run, by).url) for by in ("ann", "bob"))
    press(ann, "a")
    expect(ann.locator("#saving")).to_have_text("✓ saved")
    press(bob, "r")
    expect(bob.locator("#votes")).to_contain_text("accepted by ann")
    expect(bob.locator("#votes")).to_contain_text("Conflict: as many accept as reject")
    ann.reload()
    expect(ann.locator("#progress-text")).to_have_text("decided 0 of 3 domains, 1 in conflict")
    expect(ann.locator(".domain").first.locator(".marks")).to_have_text("⚠")
    assert read_annotations([run / "annotations.jsonl"]).conflicts == ["mixed.org/"]


def test_a_page_of_scripts_stays_text(run, command, visit):
    page = visit(command(run, "ann").url)
    press(page, "ArrowDown", "ArrowDown")
    expect(page.locator("#domain-name")).to_have_text("hostile.example")
    expect(page.locator(".sample .text").first).to_contain_text(HOSTILE)
    assert page.locator(".sample").count() == 3
    assert page.locator("#samples script, #samples img, #prefixes script, #prefixes img").count() == 0
    assert page.locator(".prefix .label").nth(1).inner_text().startswith("<script>")
    links = page.locator(".sample a").evaluate_all("links => links.map(a => [a.protocol, a.rel, a.target])")
    assert links == [["https:", "noreferrer noopener", "_blank"]] * 3
    press(page, "Enter", *["j"] * 10)
    expect(page.locator("#prefix-name")).to_have_text("javascript:window.hacked=1/")
    expect(page.locator(".sample")).to_have_count(1)
    assert page.locator(".sample a").count() == 0
    page.locator(".sample .address").click()
    press(page, *["k"] * 10, "j", "a")
    expect(page.locator("#saving")).to_have_text("✓ saved")
    page.reload()
    expect(page.locator("#votes")).to_contain_text("accepted by ann")
    expect(page.locator("#prefix-name")).to_contain_text("<script>")
    assert page.evaluate("window.hacked") is None
    assert HOSTILE.split("/")[0] in rows(run)[0]["prefix"]


def test_the_policy_stops_scripts_and_connections(run, command, visit):
    page = visit(command(run, "ann").url)
    page.evaluate("""() => {
        const attempt = (act) => { try { act(); } catch {} };
        const script = document.createElement("script");
        attempt(() => { script.textContent = "window.hacked = 1"; });
        attempt(() => { script.append("window.hacked = 1"); });
        document.body.append(script);
        attempt(() => document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.hacked = 1'>"));
        attempt(() => document.body.setAttribute("onclick", "window.hacked = 1"));
        document.body.click();
    }""")
    assert page.evaluate("fetch('http://127.0.0.1:1/').catch(error => 'refused')") == "refused"
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None


def test_a_server_that_has_gone_is_said_in_red_and_nothing_is_lost(run, command, visit):
    first = command(run, "ann")
    page = visit(first.url)
    first.end(signal.SIGKILL)
    press(page, "a", "Enter", "j")
    expect(page.locator("#saving")).to_contain_text("1 not saved: the server does not answer")
    expect(page.locator("#saving")).to_have_class("error")
    expect(page.locator(".prefix").first).to_contain_text("✓ not saved")
    press(page, "r")
    expect(page.locator("#saving")).to_contain_text("2 not saved")
    assert not (run / "annotations.jsonl").exists()
    command(run, "ann", port=first.port)
    expect(page.locator("#saving")).to_have_text("✓ saved")
    assert [(row["prefix"], row["accept"]) for row in rows(run)] == [
        ("mixed.org/", True),
        ("mixed.org/shop/", False),
    ]


def test_everything_works_by_keys(run, command, visit):
    page = visit(command(run, "ann").url)
    press(page, "?")
    expect(page.locator("#help")).to_be_visible()
    press(page, "Escape", "n", "a")
    expect(page.locator("#progress-text")).to_have_text("decided 1 of 3 domains")
    assert "flat.org" in chosen(page, "domain") and rows(run)[0]["prefix"] == "flat.org/"
    press(page, "k")
    expect(page.locator("#domain-name")).to_have_text("mixed.org")
    press(page, "n")
    expect(page.locator("#domain-name")).to_have_text("hostile.example")  # flat.org is decided
    press(page, "r", "n")
    expect(page.locator("#domain-name")).to_have_text("mixed.org")
    expect(page.locator("#progress-text")).to_have_text("decided 2 of 3 domains")
    press(page, "n")
    expect(page.locator("#notice")).to_contain_text("only undecided domain")
    press(page, "/")
    page.keyboard.type("flat")
    expect(page.locator(".domain")).to_have_count(1)
    press(page, "Enter", "u")
    expect(page.locator("#progress-text")).to_have_text("decided 1 of 3 domains")


def test_folders_open_and_close(run, command, visit):
    page = visit(command(run, "ann").url)
    open_prefix(page, "maths/")
    expect(page.locator(".prefix")).to_have_count(5)
    press(page, "ArrowLeft")
    expect(page.locator(".prefix")).to_have_count(4)
    press(page, "ArrowRight")
    expect(page.locator(".prefix")).to_have_count(5)
    press(page, "ArrowRight")
    expect(page.locator("#prefix-name")).to_have_text("mixed.org/maths/algebra/")
    press(page, "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft", "j")
    expect(page.locator("#domain-name")).to_have_text("flat.org")


def test_five_thousand_domains_scroll(tmp_path, command, visit):
    pages = {
        f"site{i:04d}.org": [page(f"https://site{i:04d}.org/{j}", 0.5, False, "text") for j in range(2)]
        for i in range(5000)
    }
    write_iteration(tmp_path, 1, pages)
    shown = visit(command(tmp_path, "ann").url)
    expect(shown.locator("#progress-text")).to_have_text("decided 0 of 5,000 domains")
    assert shown.locator(".domain").count() < 60
    press(shown, *["j"] * 100)
    expect(shown.locator("#domain-name")).to_have_text("site0100.org")
    expect(shown.locator(".domain[aria-selected=true]")).to_be_in_viewport()
    press(shown, "a")
    expect(shown.locator("#saving")).to_have_text("✓ saved")
    assert rows(tmp_path)[0]["prefix"] == "site0100.org/"
    shown.reload()
    expect(shown.locator(".domain[aria-selected=true]")).to_contain_text("site0100.org")


def test_a_run_without_domains_says_what_to_do(tmp_path, command, chromium):
    write_iteration(tmp_path, 1, {})
    shown = chromium.new_page()
    shown.goto(command(tmp_path, "ann").url)
    expect(shown.locator("#empty")).to_contain_text("No domain was discovered")
    shown.close()


def test_ctrl_c_ends_the_command(run, command):
    assert command(run, "ann").end() == 0
