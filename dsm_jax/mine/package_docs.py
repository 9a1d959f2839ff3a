"""The offline crawl: documentation of the installed Python packages as WARC files.

Real text that every machine has. Docstrings are read with ast, nothing is imported. The package is the host
and the module's path the URL path: https://sympy/polys/rings. Same packages, same bytes.

Left out on purpose: the standard library, compiled modules, tests, examples in comments.
"""

import ast
import gzip
import html
import json
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from dsm_jax.errors import UserError
from dsm_jax.run import DONE, atomic, is_done, mark_done, progress, read_json, write_text

MATH_HOSTS = ("mpmath", "numpy", "opt_einsum", "scipy", "sympy")  # judged by reading their pages
SEED_HOST = "sympy"
SHARDS = 4
SEED = "seed.jsonl"
MIN_WORDS = 60  # of docstrings, for a module to be a page
MAX_SOURCE_BYTES = 400_000
_SKIPPED_FOLDERS = {"tests", "test", "testing", "_vendor", "vendored", "__pycache__"}
_DATE = "2000-01-01T00:00:00Z"  # WARC wants one; a real one would change the bytes
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class DocsConfig:
    """What is crawled."""

    pages_per_package: int = 400
    """Pages of one package."""
    packages: tuple[str, ...] = ()
    """Crawl these packages only; none named = every installed one."""

    def __post_init__(self) -> None:
        if self.pages_per_package < 1:
            raise UserError(f"--docs.pages-per-package {self.pages_per_package}: must be at least 1")


@dataclass(frozen=True)
class DocPage:
    """One module's documentation as HTML."""

    url: str
    html: str


def is_seed(url: str) -> bool:
    """The default seed: half of sympy's modules, by a hash of the URL."""
    return url.startswith(f"https://{SEED_HOST}/") and _hash(url) % 2 == 0


def crawl(folder: Path, config: DocsConfig, planted: Sequence[str] = ()) -> list[Path]:
    """Writes the crawl as `folder`/docs-NNNNN-of-NNNNN.warc.gz and its seed as `folder`/seed.jsonl, unless they are there;
    returns the WARC files.

    planted: benchmark texts put into as many pages of the seed, to show that decontamination finds them.
    Raises UserError when a named package has no documentation, or fewer seed pages than planted texts are
    found.
    """
    paths = [folder / f"docs-{i:05d}-of-{SHARDS:05d}.warc.gz" for i in range(SHARDS)]
    asked = {"docs": asdict(config), "texts": list(planted)}
    if is_done(folder):
        if read_json(folder / DONE)["asked"] != json.loads(json.dumps(asked)):
            raise UserError(
                f"{folder}: a crawl of other packages, or with other planted texts: give another --out"
            )
        return paths
    folder.mkdir(parents=True, exist_ok=True)
    pages = _plant(list(_pages(config.pages_per_package, config.packages)), planted)
    pages.sort(key=lambda page: _hash(page.url))  # as a crawl comes: packages mixed
    for i, path in enumerate(paths):
        with atomic(path) as tmp:
            tmp.write_bytes(b"".join(map(_record, pages[i::SHARDS])))
    urls = [page.url for page in pages]
    write_text(folder / SEED, "".join(json.dumps({"url": url}) + "\n" for url in filter(is_seed, urls)))
    mark_done(folder, {"asked": asked, "pages": len(pages), "planted": planted_urls(urls, len(planted))})
    return paths


def planted_urls(urls: Sequence[str], count: int) -> list[str]:
    """The pages that receive the planted texts, in their order: the first seed pages by hash."""
    return sorted(filter(is_seed, urls), key=_hash)[:count]


def _plant(pages: list[DocPage], planted: Sequence[str]) -> list[DocPage]:
    urls = planted_urls([page.url for page in pages], len(planted))
    if len(urls) < len(planted):
        raise UserError(
            f"planting {len(planted)} texts needs as many seed pages, the crawl has {len(urls)}: crawl more"
        )
    text_of = dict(zip(urls, planted, strict=True))

    def place(page: DocPage) -> DocPage:
        if page.url not in text_of:
            return page
        paragraph = f"<p>{html.escape(text_of[page.url])}</p>\n</main>"
        return DocPage(page.url, page.html.replace("</main>", paragraph, 1))

    return list(map(place, pages))


def _pages(pages_per_package: int, packages: Sequence[str]) -> Iterator[DocPage]:
    root = Path(sysconfig.get_path("purelib"))
    folders = _packages(root, packages)
    with progress(len(folders), "read package documentation (packages)") as bar:
        for folder in folders:
            found = 0
            for path in sorted(_sources(folder), key=lambda path: _hash(path.relative_to(root).as_posix())):
                page = _module_page(path, root)
                if page is not None:
                    found += 1
                    yield page
                if found == pages_per_package:
                    break
            bar.advance(note=folder.name)


def _packages(root: Path, names: Sequence[str]) -> list[Path]:
    for name in names:
        if not (root / name).is_dir():
            raise UserError(f"--docs.packages {name}: not installed in {root}")
    if names:
        return [root / name for name in sorted(names)]
    return sorted(path.parent for path in root.glob("*/__init__.py"))


def _sources(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*.py"):
        if (
            not _SKIPPED_FOLDERS & set(path.relative_to(folder).parts)
            and path.stat().st_size <= MAX_SOURCE_BYTES
        ):
            yield path


def _module_page(path: Path, root: Path) -> DocPage | None:
    """The page of one module, or None where it has too little documentation or cannot be parsed."""
    source = path.read_bytes()
    if b'"""' not in source and b"'''" not in source:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # other people's invalid escapes
            tree = ast.parse(source)
    except (SyntaxError, ValueError):  # templates and files of another Python version
        return None
    docs = [(_title(node), doc) for node in _documented(tree) if (doc := ast.get_docstring(node))]
    if sum(len(doc.split()) for _, doc in docs) < MIN_WORDS:
        return None
    parts = path.relative_to(root).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    return DocPage("https://" + parts[0] + "/" + "/".join(parts[1:]), _html(".".join(parts), docs))


def _documented(tree: ast.Module) -> Iterator[_Documented]:
    yield tree
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        if isinstance(node, ast.ClassDef):
            yield from (
                child for child in node.body if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            )


def _title(node: _Documented) -> str:
    return "" if isinstance(node, ast.Module) else node.name


def _html(module: str, docs: Sequence[tuple[str, str]]) -> str:
    name = html.escape(module)
    body = "".join(
        (f"<h2>{html.escape(title)}</h2>\n" if title else "")
        + "".join(f"<p>{_lines(part)}</p>\n" for part in doc.split("\n\n") if part.strip())
        for title, doc in docs
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title></head>\n'
        f"<body><main>\n<h1>{name}</h1>\n{body}</main></body></html>\n"
    )


def _lines(part: str) -> str:
    return html.escape(part, quote=False).replace("\n", "<br>\n")


def _record(page: DocPage) -> bytes:
    """One WARC response record as its own gzip member."""
    body = page.html.encode("utf-8", "replace")
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    digest = sha256(page.url.encode()).hexdigest()
    uuid = f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{uuid}>\r\n"
        f"WARC-Target-URI: {page.url}\r\n"
        f"WARC-Date: {_DATE}\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(http) + len(body)}\r\n\r\n"
    ).encode()
    return gzip.compress(head + http + body + b"\r\n\r\n", mtime=0)


def _hash(text: str) -> int:
    return int(sha256(text.encode()).hexdigest()[:16], 16)
