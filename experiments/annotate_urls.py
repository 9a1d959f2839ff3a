"""A page on this machine to accept or reject URL prefixes of a mining run; or a language model does it.

    python experiments/annotate_urls.py RUN
    python experiments/annotate_urls.py RUN --llm http://localhost:8000/v1 --model NAME

RUN is the folder that mine_corpus.py had as --out. Decisions go to RUN/annotations.jsonl, each at once, with
who and when. The page shows its keys for "?". The key of an endpoint that wants one stands in OPENAI_API_KEY.
"""

from __future__ import annotations

import getpass
import webbrowser
from dataclasses import dataclass
from pathlib import Path

import tyro

from dsm_jax.cli import run_script
from dsm_jax.errors import UserError
from dsm_jax.mine.annotate.annotations import FILE
from dsm_jax.mine.annotate.llm import Endpoint, annotate
from dsm_jax.mine.annotate.server import AnnotationServer
from dsm_jax.mine.annotate.state import AnnotationState


@dataclass(frozen=True)
class Config:
    """Options."""

    run: tyro.conf.Positional[str] = ""
    """The folder of a mining run."""
    preset: str = "default"
    by: str = ""
    """The annotator's name; none given = the login name."""
    port: int = 8765
    """Of the page on this machine; 0 takes a free one."""
    browser: bool = True
    """Open the page."""
    llm: str = ""
    """Instead of the page: the base URL of an OpenAI-compatible endpoint, as http://localhost:8000/v1."""
    model: str = ""
    """The model's name there."""


PRESETS = {"default": Config()}


def main(config: Config) -> None:
    if not config.run:
        raise UserError("RUN is missing: give the folder that mine_corpus.py had as --out")
    if config.llm:
        return ask_model(config)
    state = AnnotationState(Path(config.run), config.by or _login_name())
    with AnnotationServer(state, config.port) as server:
        try:
            print(f"annotate at {server.url} (Ctrl-C ends; decisions are saved to {state.file})", flush=True)
            if config.browser:
                webbrowser.open(server.url)
            server.serve_forever()
        except KeyboardInterrupt:
            print(f"\nended; the decisions are in {state.file}")


def ask_model(config: Config) -> None:
    """Has the endpoint's model decide, and prints what came of it."""
    if not config.model:
        raise UserError("--llm needs --model NAME, as the endpoint knows it")
    counts = annotate(Path(config.run), Endpoint(config.llm, config.model))
    said = ", ".join(f"{counts[name]} {name}" for name in ("accepted", "rejected", "not answered"))
    print(f"llm:{config.model}: {said}; the decisions are in {Path(config.run) / FILE}")


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        raise UserError("--by: this system has no login name for you: give your name") from None


if __name__ == "__main__":
    run_script(main, PRESETS)
