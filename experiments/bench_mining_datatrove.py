"""bench_mining.py's peer datatrove: its WARC reader, Trafilatura, fastText filter and JSONL writer on the same files, with
the same model. Runs in an environment of its own and imports nothing of ours."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_worker import serve
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters.fasttext_filter import FastTextClassifierFilter
from datatrove.pipeline.readers import WarcReader
from datatrove.pipeline.writers import JsonlWriter

TIMEOUT_S = 60.0  # its own, of a second, drops pages of a busy machine


def build(request: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Task -> what runs it once."""
    folder = Path(request["folder"]) / "datatrove"

    def run(*steps: Any) -> int:
        shutil.rmtree(folder, ignore_errors=True)
        documents = None
        for step in steps:
            documents = step.run(documents) if documents is not None else step.run()
        return sum(1 for _ in documents or ())

    def reader() -> WarcReader:
        return WarcReader(request["crawl"], glob_pattern="*.warc.gz")

    def whole() -> int:
        keep = FastTextClassifierFilter(
            request["model"], keep_labels=("math", request["min_score"]), newline_replacement=" "
        )
        return run(reader(), Trafilatura(timeout=TIMEOUT_S), keep, JsonlWriter(str(folder)))

    def text() -> int:
        return run(reader(), Trafilatura(timeout=TIMEOUT_S), JsonlWriter(str(folder), compression=None))

    def texts() -> dict[str, str]:
        text()
        rows = [json.loads(line) for file in folder.rglob("*.jsonl") for line in file.open(encoding="utf-8")]
        return {row["metadata"]["url"]: row["text"] for row in rows}

    return {"whole": whole, "text": text, "texts": texts}


if __name__ == "__main__":
    serve(build)
