"""What can be set in mining, and the presets.

Left out on purpose: paths, and the number of worker processes, which changes no byte.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from dsm_jax.errors import UserError
from dsm_jax.mine.loop.classify import FastTextConfig


@dataclass(frozen=True)
class MineConfig:
    """Options of the mining loop; the defaults are the paper's (section 2.1) unless said otherwise."""

    classifier: FastTextConfig = field(default_factory=FastTextConfig)
    iterations: int = 4
    """At most so many rounds of train, rank, find domains, grow the seed."""
    stop_share: float = 0.98
    """Stop when this share of an iteration's pages was collected by the one before."""
    max_seed_pages: int = 500_000
    """Positives drawn from the seed; as many negatives are drawn."""
    negatives_by: Literal["page", "domain"] = "page"
    """Random pages as they come, or a random domain first: one large mathematical site cannot fill them."""
    keep_tokens: tuple[int, ...] = (40_000_000_000, 89_000_000_000, 120_200_000_000)
    """Budget of each iteration in tokens, counted as words (a CJK character is one); the last one repeats."""
    keep_share: float = 1.0
    """And never more than this share of the crawl's tokens."""
    min_score: float = 0.5
    """Without keep_tokens and keep_share (none, and 1): collect the pages of at least this score (ours)."""
    most_rejected: float = 0.05
    """Of the negatives at most this share is pages under rejected prefixes (ours)."""
    collect_rejected: bool = True
    """Pages under rejected prefixes may be collected where they score high; False: never (ours)."""
    domain_share: float = 0.10
    """A domain is mathematical when more than this share of its pages was collected."""
    domain_min_pages: int = 1
    """And when it has at least so many pages (the paper names no minimum)."""
    accept_share: float = 0.5
    """Without annotations, a URL folder of such a domain joins the seed when more than this share of it was
    collected (ours: in the paper people annotate URL paths)."""
    grams_need_words: bool = False
    """Decontaminate by 10-grams with two different words of three letters only: spares counting runs."""
    rng_seed: int = 0

    def __post_init__(self) -> None:
        for name in (
            "keep_share",
            "domain_share",
            "accept_share",
            "stop_share",
            "min_score",
            "most_rejected",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{_option(name)} {getattr(self, name)}: must be a share from 0 to 1")
        for name in ("iterations", "max_seed_pages", "domain_min_pages"):
            if getattr(self, name) < 1:
                raise UserError(f"{_option(name)} {getattr(self, name)}: must be at least 1")
        if self.keep_tokens and min(self.keep_tokens) < 1:
            raise UserError(f"{_option('keep_tokens')} {self.keep_tokens}: must be positive numbers")

    def budget(self, iteration: int, count_tokens: Callable[[], int]) -> int | None:
        """Tokens that an iteration may keep of a crawl's, which are counted where a share of them is asked for; None where
        there is no budget."""
        budgets = list(self.keep_tokens[:iteration][-1:])
        if self.keep_share < 1:
            budgets.append(int(self.keep_share * count_tokens()))
        return min(budgets, default=None)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


# For seeds of some hundred pages, and crawls that hold fewer than the paper's 40B pages.
_SMALL = MineConfig(
    classifier=FastTextConfig(bucket=100_000, min_count=1),
    negatives_by="domain",
    keep_tokens=(),
    domain_min_pages=10,
    grams_need_words=True,
)
_QUICKSTART = MineConfig(
    classifier=FastTextConfig(dim=32, lr=0.5, epoch=25, bucket=50_000),
    iterations=2,
    negatives_by="domain",
    keep_tokens=(),
    keep_share=0.15,
    domain_min_pages=10,
    grams_need_words=True,
)
_SMOKE = replace(
    _QUICKSTART, classifier=FastTextConfig(dim=16, lr=0.5, epoch=25, bucket=10_000), keep_share=0.3
)
PRESETS: Mapping[str, MineConfig] = MappingProxyType(
    {"default": _SMALL, "paper": MineConfig(), "quickstart": _QUICKSTART, "smoke": _SMOKE}
)
