"""Rank pages by score and keep the top N tokens.

Left out on purpose: the streaming score histogram that a crawl larger than memory needs.
"""

from collections.abc import Sequence


def keep_top(scores: Sequence[float], words: Sequence[int], keys: Sequence[str], budget: int) -> list[bool]:
    """True for the best pages whose words fit into `budget`; the ranking stops at the first that does not.

    Equal scores are ranked by key. Pages without words are never kept.
    """
    kept = [False] * len(scores)
    used = 0
    for i in sorted((i for i, n in enumerate(words) if n), key=lambda i: (-scores[i], keys[i])):
        if used + words[i] > budget:
            break
        kept[i] = True
        used += words[i]
    return kept
