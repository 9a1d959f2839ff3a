"""Shows problems of the generator with their solutions: `python experiments/show_problems.py --count 2`."""

from dataclasses import dataclass
from itertools import product

from dsm_jax.cli import run_script
from dsm_jax.data.problems import FAMILIES, LANGUAGES, LEVELS, ProblemSet


@dataclass(frozen=True)
class Config:
    """What to show: `count` problems of each family, level and language, from a split ("train" or "test")."""

    preset: str = "default"
    split: str = "train"
    count: int = 1
    families: tuple[str, ...] = FAMILIES
    levels: tuple[int, ...] = LEVELS
    languages: tuple[str, ...] = LANGUAGES
    rng_seed: int = 0


def main(config: Config) -> None:
    for family, level, language in product(config.families, config.levels, config.languages):
        problems = ProblemSet(config.split, (family,), (level,), language, config.rng_seed)
        for index in range(config.count):
            print(f"[{family}, level {level}] {problems[index].question}\n{problems[index].solution}\n")


if __name__ == "__main__":
    run_script(main, {"default": Config()})
