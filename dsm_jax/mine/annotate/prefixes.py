"""Counts by URL prefix: what an annotator sees of a domain before deciding on a host or a folder of it.

Left out on purpose: prefixes that end inside a path segment (decisions may name them), and query strings.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dsm_jax.mine.annotate.annotations import slashed

MAX_DEPTH, MAX_CHARACTERS = 12, 300  # of a prefix: crawler traps have URLs without end
_UNIT = 1_000_000  # scores are added as whole millionths: a sum that no order of pages changes

_Tree = dict[str, list[int]]  # prefix -> pages, collected, sum of scores


def prefix_counts(
    pages: Iterable[tuple[str, str, float, bool]], limit: int = 300
) -> Iterator[dict[str, Any]]:
    """Rows {domain, prefix, pages, collected, mean_score}: each domain's `limit` largest prefixes.

    pages: (domain, url, score, kept) in any order. Domains come sorted, their prefixes largest first, a
    folder after those that it lies in. At most 2 * limit prefixes a domain are held: of a domain with more, the
    smallest are forgotten now and then, and one that comes again lacks those pages.
    """
    trees: dict[str, _Tree] = {}
    for domain, url, score, kept in pages:
        tree = trees.setdefault(domain, {})
        for prefix in folders(url):
            counts = tree.setdefault(prefix, [0, 0, 0])
            counts[0] += 1
            counts[1] += kept
            counts[2] += round(score * _UNIT)
        if len(tree) > 2 * limit:
            trees[domain] = dict(_largest(tree, limit))
    for domain in sorted(trees):
        for prefix, (count, collected, total) in _largest(trees[domain], limit):
            mean = round(total / count / _UNIT, 6)
            yield {
                "domain": domain,
                "prefix": prefix,
                "pages": count,
                "collected": collected,
                "mean_score": mean,
            }


def folders(url: str) -> list[str]:
    """The prefixes that hold a URL: "a.org/" and "a.org/b/" of https://a.org/b/c?d.

    A folder's own page (https://a.org/b/) counts in the folder above it: most sites write every page so.
    """
    path = slashed(url).partition("?")[0][:-1]
    cut = path[: MAX_CHARACTERS + 1]
    ends = [at + 1 for at, letter in enumerate(cut) if letter == "/" and not cut.startswith("/", at - 1)]
    return [path[:end] for end in ends[:MAX_DEPTH]] or [path + "/"]


def as_tree(pages: Mapping[str, int]) -> list[tuple[str, int]]:
    """(prefix, depth) of each prefix: behind the longest other one that it starts with, the largest first.

    pages: the number of pages by prefix, which orders those of one folder.
    """
    inside: dict[str, list[str]] = {"": []}
    path = [""]  # the prefixes that hold the next one; sorted, they come just before it
    for prefix in sorted(pages):
        while not prefix.startswith(path[-1]):
            path.pop()
        inside[path[-1]].append(prefix)
        inside[prefix] = []
        path.append(prefix)
    return list(_walk(inside, pages, "", 0))


def _walk(
    inside: Mapping[str, Sequence[str]], pages: Mapping[str, int], prefix: str, depth: int
) -> Iterator[tuple[str, int]]:
    for one in sorted(inside[prefix], key=lambda one: (-pages[one], one)):
        yield one, depth
        yield from _walk(inside, pages, one, depth + 1)


def _largest(tree: _Tree, limit: int) -> list[tuple[str, list[int]]]:
    return sorted(tree.items(), key=lambda item: (-item[1][0], len(item[0]), item[0]))[:limit]
