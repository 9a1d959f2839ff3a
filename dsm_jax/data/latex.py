r"""LaTeX sources as training text: what a reader of the paper sees, still in TeX.

Out: everything before \begin{document} and after \end{document}, comments, the bibliography, definitions of macros. Macros
without arguments are written out, wherever they stand (their names mean nothing outside of their file).
Left out on purpose: macros with arguments, whose calls stay; files that \input names (sources come joined, or one by one).
"""

from __future__ import annotations

import re

COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%[^\n]*(\n[ \t]*)?")
VERBATIM = re.compile(
    r"\\begin\{(verbatim|lstlisting|minted|comment)\*?\}.*?(?:\\end\{\1\*?\}|\Z)", re.DOTALL
)
BIBLIOGRAPHY = re.compile(
    r"\\begin\{thebibliography\}.*?(?:\\end\{thebibliography\}|\Z)|\\(?:bibliography|bibliographystyle|printbibliography)\b"
    r"(?:\[[^\]]*\])?(?:\{[^}]*\})?",
    re.DOTALL,
)
DOCUMENT = re.compile(r"\\begin\s*\{document\}(.*?)(?:\\end\s*\{document\}|\Z)", re.DOTALL)
DEFINITION = re.compile(
    r"\\(?:(?:re|provide)?newcommand|renewcommand|providecommand|DeclareMathOperator|def|gdef|edef)\b\*?"
)
NAME = re.compile(r"\s*\{?\s*(\\[A-Za-z@]+|\\.)\s*\}?")
ARGUMENTS = re.compile(r"\s*(?:\[(\d)\](?:\s*\[[^\]]*\])?|((?:#\d)+))")
MOST_EXPANSIONS = 5  # rounds of macros within macros; longer chains stay as they are
LONGEST_DEFINITION = 2_000  # characters; braces that do not close by then are no definition's
LONGEST_MACRO = 1_000  # characters of a meaning that is written out


def latex_text(source: str) -> str:
    """The document's body as described above; "" where there is none. Sources without \\begin{document} are all body."""
    source = _without_comments(source)
    body, meanings = _without_definitions(source)
    document = DOCUMENT.search(body)
    body = document[1] if document else body
    body = BIBLIOGRAPHY.sub("", body)
    body = _expanded(body, meanings)
    body = re.sub(r"[ \t]+\n", "\n", body)
    return re.sub(r"\n{3,}", "\n\n", body).strip()


def _without_comments(source: str) -> str:
    """An unescaped % hides the rest of its line and, as in TeX, the line's end; not in verbatim text."""
    parts, at = [], 0
    for verbatim in VERBATIM.finditer(source):
        parts.append(COMMENT.sub(_kept_of_a_comment, source[at : verbatim.start()]))
        parts.append("" if verbatim[1] == "comment" else verbatim[0])
        at = verbatim.end()
    return "".join([*parts, COMMENT.sub(_kept_of_a_comment, source[at:])])


def _kept_of_a_comment(comment: re.Match[str]) -> str:
    """The backslashes before it; of a line that is nothing but a comment, nothing."""
    line_start = comment.string.rfind("\n", 0, comment.start()) + 1
    alone = not comment.string[line_start : comment.start()].strip()
    return comment[1] + ("" if alone or comment[2] is None else "\n")


def _without_definitions(source: str) -> tuple[str, dict[str, str]]:
    """The source without macro definitions, and the meanings of those without arguments."""
    kept, meanings, at = [], {}, 0
    while found := DEFINITION.search(source, at):
        name = NAME.match(source, found.end())
        arguments = ARGUMENTS.match(source, name.end()) if name else None
        opening = arguments.end() if arguments else name.end() if name else found.end()
        body = _group(source, opening)
        kept.append(source[at : found.start()])
        if name is None or body is None:  # no definition after all
            kept.append(found[0])
            at = found.end()
            continue
        text, at = body
        if arguments is None and len(text) <= LONGEST_MACRO:
            operator = found[0].startswith(r"\DeclareMathOperator")
            meanings[name[1]] = rf"\operatorname{{{text}}}" if operator else text
    return "".join([*kept, source[at:]]), meanings


def _group(source: str, at: int) -> tuple[str, int] | None:
    """What stands between the braces that open at `at` (after spaces), and the place after them."""
    opening = re.compile(r"\s*\{").match(source, at)
    if not opening:
        return None
    depth = 1
    for mark in re.compile(r"\\.|[{}]", re.DOTALL).finditer(
        source, opening.end(), opening.end() + LONGEST_DEFINITION
    ):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if depth == 0:
            return source[opening.end() : mark.start()], mark.end()
    return None


def _expanded(body: str, meanings: dict[str, str]) -> str:
    if not meanings:
        return body
    names = "|".join(re.escape(name) for name in sorted(meanings, key=len, reverse=True))
    call = re.compile(rf"(?:{names})(?![A-Za-z@])")
    longest = 2 * len(body) + LONGEST_MACRO  # macros that make themselves longer end here
    for _ in range(MOST_EXPANSIONS):
        expanded = call.sub(lambda found: meanings[found[0]], body)
        if expanded == body or len(expanded) > longest:
            break
        body = expanded
    return body
