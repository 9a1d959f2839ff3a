"""report.html: one file that needs nothing else, pictures inside, light or dark as the reader's system.

Sections hold paragraphs, tables, pictures and texts with marked parts. Every text is escaped: web pages and model text are
data here. Leaves out on purpose: what a report says (the experiment's part), scripts, and anything from the network.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

from dsm_jax.evaluate.figures import Picture
from dsm_jax.run import write_text

CSS = """
:root { color-scheme: light dark; --ink: #1e293b; --soft: #64748b; --line: #e2e8f0; --paper: #fff;
  --page: #f8fafc; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e2e8f0; --soft: #94a3b8; --line: #334155; --paper: #1e293b; --page: #0f172a; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.6 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 0 0 .75rem; }
.lead { color: var(--soft); margin: 0 0 1.5rem; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: 0 0 2rem; font-size: .9rem; }
a { color: #3b82f6; text-decoration: none; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: .75rem; padding: 1.5rem;
  margin: 0 0 1.25rem; }
p { margin: 0 0 1rem; max-width: 46rem; }
section > :last-child { margin-bottom: 0; }
.scroll { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .45rem .75rem .45rem 0;
  border-bottom: 1px solid var(--line); white-space: pre-wrap; overflow-wrap: anywhere; min-width: 6.5rem; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; min-width: 0; }
figure { margin: 0 0 1.25rem; }
.marked { white-space: pre-wrap; overflow-wrap: anywhere; max-width: none; }
.good { background: #22c55e33; } .bad { background: #ef444433; } .soft { color: var(--soft); font-size: .85em; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: .5rem;
  padding: .5rem; }
figcaption { color: var(--soft); font-size: .85rem; margin-top: .35rem; }
"""

_NUMBER = re.compile(
    r"[-+−]?\d[\d,.]*( ?[%A-Za-z]{1,4})?( to [-+−]?\d[\d,.]*%?| \([-\d.]+ to [\d.]+\)( @\d+)?)?"
)


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; line breaks in a cell stay, columns of numbers go to the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table for a page of docs/; its first line is the header."""
    header, *rows = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))


@dataclass(frozen=True)
class Marked:
    """A text in pieces, each with how it is shown; line breaks stay."""

    pieces: tuple[tuple[str, Literal["", "good", "bad", "soft"]], ...]


Part = str | Table | Picture | Marked


@dataclass(frozen=True)
class Section:
    """A titled part of a report: paragraphs (a blank line starts a new one) and other parts in order."""

    title: str
    parts: tuple[Part, ...]


def write_report(path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Writes the report, complete or not at all. lead: the sentence under the title."""
    links = "\n".join(f'<a href="#s{n}">{_text(s.title)}</a>' for n, s in enumerate(sections))
    body = "\n".join(_section(number, section) for number, section in enumerate(sections))
    write_text(
        path,
        f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(title)}</title>
<style>{CSS}</style>
</head>
<body>
<main>
<h1>{_text(title)}</h1>
<p class="lead">{_text(lead)}</p>
<nav>
{links}
</nav>
{body}
</main>
</body>
</html>
""",
    )


def _section(number: int, section: Section) -> str:
    parts = "\n".join(_part(part) for part in section.parts)
    return f'<section id="s{number}">\n<h2>{_text(section.title)}</h2>\n{parts}\n</section>'


def _part(part: Part) -> str:
    if isinstance(part, Marked):
        pieces = (
            f'<span class="{kind}">{_text(text)}</span>' if kind else _text(text)
            for text, kind in part.pieces
        )
        return f'<p class="marked">{"".join(pieces)}</p>'
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Picture):
        data, caption = base64.b64encode(part.png).decode(), _text(part.caption)
        image = f'<img alt="{caption}" width="{_width(part.png)}" src="data:image/png;base64,{data}">'
        return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
    return "\n".join(f"<p>{_text(paragraph)}</p>" for paragraph in part.split("\n\n") if paragraph.strip())


def _table(table: Table) -> str:
    columns = list(zip(*table.rows, strict=True)) or [("-",)] * len(table.header)
    numeric = [all(map(_is_number, column)) and any(column) for column in columns]
    rows = [_row("th", table.header, numeric), *(_row("td", row, numeric) for row in table.rows)]
    return '<div class="scroll"><table>\n' + "\n".join(rows) + "\n</table></div>"


def _row(tag: str, cells: Sequence[str], numeric: Sequence[bool]) -> str:
    kinds = [' class="number"' if number else "" for number in numeric]
    inner = (f"<{tag}{kind}>{_text(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True))
    return f"<tr>{''.join(inner)}</tr>"


def _is_number(cell: str) -> bool:
    return cell in ("", "-") or bool(_NUMBER.fullmatch(cell))


def _width(png: bytes) -> int:
    """The width on the page: two thirds of the pixels (PNG, bytes 16 to 20), sharp on dense screens."""
    return int.from_bytes(png[16:20]) * 2 // 3


def _text(text: str) -> str:
    """Escaped text; what no page can hold (control characters, lone surrogates) shows as a question mark."""
    return escape("".join(c if c.isprintable() or c in "\n\t" else "?" for c in text))
