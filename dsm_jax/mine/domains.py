"""Mathematical domains (DeepSeekMath section 2.1) and the URL prefixes inside them that join the seed.

A domain is mathematical when more than a tenth of its pages was collected. In the paper people then annotate
URL paths with mathematical content; here an annotations file {prefix, accept} stands for them. Without one a
URL folder inside a discovered domain is accepted when most of its pages were collected: accepting domains
whole would bring in everything else that a large mixed site has.

Left out on purpose: the public suffix list (a domain is the host without www), the annotation page.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dsm_jax.errors import UserError
from dsm_jax.mine.pages import canonical_url
from dsm_jax.mine.seed import input_lines


@dataclass(frozen=True)
class DomainCount:
    """A domain with its pages in the crawl and those collected."""

    domain: str
    pages: int
    collected: int


@dataclass(frozen=True)
class Annotations:
    """URL prefixes ("mathoverflow.net/questions"), accepted or rejected; the longest wins.

    A host alone, or a prefix with a last slash, stands for that host or folder and what is in it.
    """

    prefixes: dict[str, bool]

    def verdict(self, url: str) -> bool | None:
        """True accepted, False rejected, None where no prefix says."""
        url = canonical_url(url)
        forms = (url, url + "/", url.replace("?", "/?", 1))  # canonical URLs have lost their last slash
        matching = [prefix for prefix in self.prefixes if any(form.startswith(prefix) for form in forms)]
        return self.prefixes[max(matching, key=len)] if matching else None


def discover(
    groups: Iterable[str], collected: Iterable[bool], share: float, min_pages: int
) -> list[DomainCount]:
    """Domains of which more than `share` of at least `min_pages` pages was collected, most collected first.

    `groups` has each page's domain (or another group, as its URL folder); pages without one ("") are in none.
    """
    pages: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    for group, is_kept in zip(groups, collected, strict=True):
        pages[group] += 1
        kept[group] += is_kept
    found = [
        DomainCount(group, n, kept[group])
        for group, n in pages.items()
        if group and n >= min_pages and kept[group] > share * n
    ]
    return sorted(found, key=lambda count: (-count.collected, count.domain))


def url_folder(url: str) -> str:
    """The canonical URL up to its last slash: "a.org/b" of https://www.a.org/b/c?d=e."""
    return canonical_url(url).partition("?")[0].rpartition("/")[0]


def read_annotations(path: Path | None) -> Annotations | None:
    """Reads JSONL rows {prefix, accept}. Raises UserError with file:line for a row that is none."""
    if path is None:
        return None
    prefixes = {}
    for number, line in input_lines("--annotations", path):
        try:
            row = json.loads(line)
            prefix, accept = row["prefix"], row["accept"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f'{path}:{number}: not a row {{"prefix": "host/path", "accept": true}}') from None
        if not isinstance(prefix, str) or not isinstance(accept, bool):
            raise UserError(f"{path}:{number}: prefix must be a string and accept true or false")
        prefixes[_canonical_prefix(prefix)] = accept
    return Annotations(prefixes)


def _canonical_prefix(prefix: str) -> str:
    canonical = canonical_url("https://" + prefix.split("://", 1)[-1])
    return canonical + "/" if prefix.endswith("/") or "/" not in canonical else canonical
