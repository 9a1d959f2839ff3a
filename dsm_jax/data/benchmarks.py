"""The one reader of benchmark files: published forms into problems, to evaluate and decontaminate by.

A benchmark is found in a folder by the usual name of its file, gsm8k_test.jsonl, gsm8k/test.jsonl or
gsm8k/main/test.jsonl, of any kind that holds rows: .jsonl, .json (both also .gz and .zst), .parquet, .csv, .tsv; or by
the folder of files that its publisher hands out (MATH/test/algebra/1.json, mmlu/test/anatomy_test.csv,
bbh/dyck_languages.json). No file is read as two benchmarks.
Only test sets are read; of a file that is named itself and is none of these, the rows with a question. A row that
lacks a field ends the reading in one line.
Left out on purpose: downloads, few-shot exemplars, prompts, judging answers; the fields of the rows
(benchmark_rows.py).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dsm_jax.data import benchmark_rows as rows
from dsm_jax.data.benchmark_rows import Row, RowError
from dsm_jax.errors import UserError
from dsm_jax.mine.corpus.decontaminate import BenchmarkText
from dsm_jax.rows import PARQUET, ROWS, read_parquet, read_rows

TABLES = {".csv": ("question", "A", "B", "C", "D", "answer"), ".tsv": ("question", "answer")}
CONFIGS = (
    "all",
    "data",
    "default",
    "full",
    "main",
    "sanitized",
    "socratic",
    "test",
)  # folders that publishers have between
ENDINGS = (*ROWS, *PARQUET, *TABLES)
_CALCULATION = re.compile(r"<<[^<>]*>>")  # a calculator's marks in GSM8K's solutions


@dataclass(frozen=True)
class Problem:
    """A problem of a benchmark, its texts as published."""

    benchmark: str
    id: str
    question: str
    answer: str
    """The final answer, a letter where there are options; "" where a proof or a program is asked for."""
    solution: str = ""
    """Worked; "" where none is published."""
    options: tuple[str, ...] = ()
    """To choose from, without their letters."""
    subject: str = ""
    level: str = ""
    """MATH's level, CMATH's grade."""
    language: str = "en"
    extra: Mapping[str, str] = field(default_factory=dict)
    """What else an evaluation needs: a program's test, setup, entry_point; a formal_statement, header."""


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark's file comes from (a repository), how it is named, how its rows are read."""

    publisher: str
    names: tuple[str, ...]
    """Of its file, or the folder that holds test.jsonl or the parts: no ending, lower case, "_" for "-"."""
    parse: Callable[[Row], dict[str, Any]]
    parts: str = ""
    """Ending of the files in the folder that it is published as."""
    language: str = "en"


_DEEPSEEK = "deepseek-ai/DeepSeek-Math"
BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        "gsm8k": Benchmark("openai/grade-school-math", ("gsm8k",), rows.gsm8k),
        "math": Benchmark(
            "hendrycks/math", ("math", "hendrycks_math", "math500"), rows.math_problem, ".json"
        ),
        "sat": Benchmark(_DEEPSEEK, ("sat", "math_sat"), rows.sat),
        "ocw": Benchmark(_DEEPSEEK, ("ocw", "ocwcourses"), rows.ocw),
        "mmlu_stem": Benchmark(_DEEPSEEK, ("mmlu_stem",), rows.mmlu),
        "cmath": Benchmark("XiaoMi/cmath", ("cmath",), rows.cmath, language="zh"),
        "mgsm_zh": Benchmark("google-research/url-nlp", ("mgsm_zh",), rows.mgsm, language="zh"),
        "gaokao_mathcloze": Benchmark(
            "ruixiangcui/AGIEval", ("gaokao_mathcloze", "gaokao_math_cloze"), rows.gaokao, language="zh"
        ),
        "gaokao_mathqa": Benchmark("ruixiangcui/AGIEval", ("gaokao_mathqa",), rows.gaokao, language="zh"),
        "svamp": Benchmark("arkilpatel/SVAMP", ("svamp",), rows.svamp),
        "multiarith": Benchmark(
            "ZubinGou/math-evaluation-harness", ("multiarith", "multi_arith"), rows.multiarith
        ),
        "minif2f": Benchmark(_DEEPSEEK, ("minif2f", "minif2f_isabelle"), rows.minif2f),
        "minif2f_validation": Benchmark(
            _DEEPSEEK, ("minif2f_validation", "minif2f_isabelle_validation", "minif2f_valid"), rows.minif2f
        ),
        "agieval": Benchmark("ruixiangcui/AGIEval", ("agieval",), rows.agieval, ".jsonl"),
        "mmlu": Benchmark("hendrycks/test", ("mmlu",), rows.mmlu, ".csv"),
        "bbh": Benchmark("suzgunmirac/BIG-Bench-Hard", ("bbh", "big_bench_hard"), rows.bbh, ".json"),
        "humaneval": Benchmark("openai/human-eval", ("humaneval", "human_eval"), rows.humaneval),
        "mbpp": Benchmark("google-research/google-research", ("mbpp", "sanitized_mbpp"), rows.mbpp),
    }
)

OWN = Benchmark("", (), rows.any_question)


def read_benchmarks(paths: Path | Sequence[Path], names: Sequence[str] = ()) -> list[Problem]:
    """The problems of the named benchmarks, or of all that are there, in folders and files.

    Without names, a given file that is none of them, or the second one of its benchmark, is read too, as one of its own
    name: rows {question} (or problem, prompt, input, text), answer, solution, options. Raises UserError for an unknown name, a missing file (where to get it), a bad row (where it is).
    """
    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    for path in given:
        if not path.exists():
            raise UserError(f"benchmarks {path}: no such file or folder")
    entries = [entry for path in given for entry in _entries(path)]
    found = {name: _find(_benchmark(name), entries) for name in names or BENCHMARKS}
    shown = ", ".join(map(str, given))
    for name in names:
        if found[name] is None:
            raise UserError(f"benchmark {name}: not in {shown}; {_wanted(BENCHMARKS[name])}")
    files = {path for path in found.values() if path and path.is_file()}
    problems = [
        problem
        for name, path in found.items()
        if path and (path in files or _parts(path, BENCHMARKS[name].parts, files))
        for problem in _read(name, path, BENCHMARKS[name], files)
    ]
    if not names:
        own = _own_files(given, found.values())
        _require_used(given, [*own, *filter(None, found.values())])
        problems += [problem for file in own for problem in read_own(file)]
    return problems


def _own_files(given: Sequence[Path], found: Iterable[Path | None]) -> list[Path]:
    """Files that are given themselves and hold no benchmark that was found."""
    used = set(found)
    return [
        path
        for path in dict.fromkeys(given)
        if path.is_file() and path.name.endswith(ENDINGS) and not used & {path, *path.parents}
    ]


def _require_used(given: Sequence[Path], found: Sequence[Path]) -> None:
    """UserError for a path that no problem would come from: what is left out unseen is not decontaminated."""
    for path in given:
        if not any(path in (one, *one.parents) for one in found):
            raise UserError(
                f"benchmarks {path}: no file has the name of a benchmark: {', '.join(BENCHMARKS)}; name it as "
                "gsm8k_test.jsonl or gsm8k/test.jsonl, or give a file of rows {question, answer} itself, not its folder"
            )


def own_name(file: Path) -> str:
    """The name by which a file of one's own goes: mine.jsonl.gz is `mine`."""
    return file.name.partition(".")[0]


def read_own(file: Path) -> list[Problem]:
    """The problems of a file of one's own, rows {question, answer, ..}, as a benchmark of its name."""
    return _read(own_name(file), file, OWN)


def unused_files(paths: Sequence[Path]) -> list[Path]:
    """The files of rows that read_benchmarks passes over in folders: other names, other splits, a benchmark's second file."""
    entries = [entry for path in paths for entry in _entries(path)]
    used = {path for benchmark in BENCHMARKS.values() if (path := _find(benchmark, entries))}
    used |= set(_own_files(paths, used))
    return [
        entry
        for entry in dict.fromkeys(entries)
        if entry.is_file() and entry.name.endswith(ENDINGS) and not used & {entry, *entry.parents}
    ]


def read_benchmark(name: str, path: Path) -> list[Problem]:
    """The problems of a benchmark in a file or folder of any name. Raises UserError like read_benchmarks."""
    benchmark = _benchmark(name)
    if not path.exists():
        raise UserError(f"benchmark {name}: {path} is missing; {_wanted(benchmark)}")
    return _read(name, path, benchmark)


def _read(name: str, path: Path, benchmark: Benchmark, others: Collection[Path] = ()) -> list[Problem]:
    """others: files in the folder `path` that are other benchmarks'."""
    problems = []
    for row in _rows(path, benchmark.parts, others):
        try:
            fields = benchmark.parse(row)
        except RowError as error:
            published = f", or take the file of {benchmark.publisher}" if benchmark.publisher else ""
            raise UserError(f"{row.place}: {error}; mend the row{published}") from error
        if fields:
            named = {"benchmark": name, "id": str(row.number), "language": benchmark.language}
            problems.append(Problem(**named | fields))
    if not problems:
        wanted = _wanted(benchmark) if benchmark.names else "give rows {question, answer}"
        raise UserError(f"benchmark {name}: no problem in {path}; {wanted}")
    return problems


def benchmark_texts(problems: Iterable[Problem]) -> list[BenchmarkText]:
    """What decontamination looks for: questions, and behind them options or solution and answer."""
    texts = []
    for problem in problems:
        plain = _CALCULATION.sub("", problem.solution)
        answer = "" if problem.options else problem.answer
        formal = problem.extra.get("formal_statement", "")
        answers = filter(None, [*problem.options, plain, problem.solution, formal, answer])
        texts.append(BenchmarkText(problem.benchmark, problem.question, tuple(dict.fromkeys(answers))))
    return texts


# Files


def _benchmark(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise UserError(f"benchmark {name}: not known; known are {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def _wanted(benchmark: Benchmark) -> str:
    name = benchmark.names[0]
    folder = f", or the folder {name} with its {benchmark.parts} files" if benchmark.parts else ""
    return f"wanted: {name}_test.jsonl or {name}/test.jsonl{folder}, from {benchmark.publisher}"


def _entries(path: Path) -> list[Path]:
    """The path, what is in it, and what is in its folders."""
    if path.is_file():
        return [path]
    inside = sorted(path.iterdir())
    return [
        path,
        *inside,
        *(entry for folder in inside if folder.is_dir() for entry in sorted(folder.iterdir())),
    ]


def _find(benchmark: Benchmark, entries: Sequence[Path]) -> Path | None:
    for name in benchmark.names:
        for entry in entries:
            if entry.is_file() and _is_file_of(name, entry):
                return entry
            if entry.is_dir() and benchmark.parts and _plain(entry.name) == name:
                within = [
                    entry / inside for inside in ("test", "data/test", "data/v1_1", "data/v1", "bbh", ".")
                ]
                if found := next((folder for folder in within if _parts(folder, benchmark.parts)), None):
                    return found
    return None


def _is_file_of(name: str, file: Path) -> bool:
    ending = max((ending for ending in ENDINGS if file.name.endswith(ending)), key=len, default=None)
    if ending is None:
        return False
    stem = _plain(file.name.removesuffix(ending))
    folder = file.absolute().parent
    above = _plain((folder.parent if _plain(folder.name) in CONFIGS else folder).name)
    parts = re.fullmatch(r"test_\d+_of_0*(\d+)", stem)
    if name == above and parts and parts[1] != "1":
        raise UserError(
            f"{file}: one of {parts[1]} parts, and one file is read: join them into {name}/test.jsonl"
        )
    return stem in (name, f"{name}_test") or (
        name == above and re.fullmatch(r"test(_\d+_of_\d+)?", stem) is not None
    )


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _parts(folder: Path, ending: str, others: Collection[Path] = ()) -> list[Path]:
    """The files of that ending without `others`, in order of their names with numbers as numbers."""

    def numerically(file: Path) -> list[tuple[bool, int, str]]:
        pieces = re.split(r"(\d+)", str(file.relative_to(folder)))
        return [(piece.isdigit(), int(piece) if piece.isdigit() else 0, piece) for piece in pieces]

    found = set(folder.rglob(f"*{ending}")) - set(others) if folder.is_dir() else ()
    return sorted(found, key=numerically)


def _rows(path: Path, parts: str, others: Collection[Path]) -> Iterator[Row]:
    for file in _parts(path, parts, others) if path.is_dir() else [path]:
        try:
            for number, (place, values) in enumerate(_values(file)):
                if not isinstance(values, dict):
                    raise UserError(f"{place}: a row must be an object, not {values!r:.40}")
                yield Row(place, file, number, values)
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror or error}") from error


def _values(file: Path) -> Iterator[tuple[str, Any]]:
    if file.suffix in TABLES:
        yield from _table(file)
    elif file.name.endswith(PARQUET):
        yield from read_parquet(file)
    else:
        for place, value in read_rows(file):
            if isinstance(value, dict) and isinstance(
                value.get("examples"), list
            ):  # BBH: a task is one object
                yield from (
                    (f"{place}, example {i}", one) for i, one in enumerate(value["examples"], start=1)
                )
            else:
                yield place, value


def _table(file: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a table: by its line of names, or as MMLU's and MGSM's, which have none."""
    names = TABLES[file.suffix]
    with file.open(encoding="utf-8-sig", newline="") as lines:
        tabs = file.suffix == ".tsv"
        cells = csv.reader(
            lines, csv.excel_tab if tabs else csv.excel, quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
        )
        try:
            for row in cells:
                if cells.line_num == 1 and "question" in row:  # a line of names
                    names = tuple(row)
                    continue
                if len(row) != len(names):
                    raise UserError(
                        f"{file}:{cells.line_num}: {len(row)} cells, not {len(names)} ({', '.join(names)})"
                    )
                yield f"{file}:{cells.line_num}", dict(zip(names, row, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{file}:{cells.line_num + 1}: not a table ({error}); fetch it again") from error
