"""What can be set in mining, and the presets.

Left out on purpose: paths, and the number of worker processes, which changes no byte.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from dsm_jax.errors import UserError
from dsm_jax.mine.classify import FastTextConfig


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
    domain_share: float = 0.10
    """A domain is mathematical when more than this share of its pages was collected."""
    domain_min_pages: int = 1
    """And when it has at least so many pages (the paper names no minimum)."""
    accept_share: float = 0.5
    """Without annotations, a URL folder of such a domain joins the seed when more than this share of it was
    collected (ours: in the paper people annotate URL paths)."""
    grams_need_words: bool = False
    """Decontaminate by 10-grams with two different words of three letters only: spares counting runs."""
    docs_pages_per_package: int = 400
    """Pages of one package in the offline crawl of package documentation (ours)."""
    docs_packages: tuple[str, ...] = ()
    """Crawl these packages only; none named = every installed one (ours)."""
    rng_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("keep_share", "domain_share", "accept_share", "stop_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{_option(name)} {getattr(self, name)}: must be a share from 0 to 1")
        for name in ("iterations", "max_seed_pages", "domain_min_pages", "docs_pages_per_package"):
            if getattr(self, name) < 1:
                raise UserError(f"{_option(name)} {getattr(self, name)}: must be at least 1")
        if not self.keep_tokens or min(self.keep_tokens) < 1:
            raise UserError(f"{_option('keep_tokens')} {self.keep_tokens}: give one positive number or more")


def _option(name: str) -> str:
    return "--mine." + name.replace("_", "-")


_QUICKSTART = MineConfig(
    classifier=FastTextConfig(dim=32, lr=0.5, epoch=25, bucket=50_000),  # few texts: more and larger steps
    iterations=2,
    negatives_by="domain",
    keep_share=0.15,
    domain_min_pages=10,
    grams_need_words=True,
    docs_pages_per_package=250,
)
_SMOKE = MineConfig(
    classifier=FastTextConfig(dim=16, lr=0.5, epoch=25, bucket=10_000),
    iterations=2,
    negatives_by="domain",
    keep_share=0.3,
    domain_min_pages=10,
    grams_need_words=True,
    docs_pages_per_package=40,
    docs_packages=("absl", "etils", "mpmath", "packaging", "rich", "sympy", "tyro"),
)
PRESETS: Mapping[str, MineConfig] = MappingProxyType(
    {"paper": MineConfig(), "quickstart": _QUICKSTART, "smoke": _SMOKE}
)
