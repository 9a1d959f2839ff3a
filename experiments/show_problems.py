"""Shows problems of the generator with their solutions: 20 of each family and language, or what is asked for.

python experiments/show_problems.py --families ratios --languages en --solution tool
"""

from dataclasses import dataclass
from itertools import product
from typing import Literal

from dsm_jax.cli import run_script
from dsm_jax.data.problems import FAMILIES, LANGUAGES, LEVELS, Problem, ProblemSet


@dataclass(frozen=True)
class Config:
    """What to show, and which solutions: chain of thought, program, or tool-integrated."""

    preset: str = "default"
    split: str = "train"  # train, rl or test
    count: int = 20  # problems of each family and language, the levels in turn
    families: tuple[str, ...] = FAMILIES
    levels: tuple[int, ...] = LEVELS
    languages: tuple[str, ...] = LANGUAGES
    solution: Literal["cot", "program", "tool"] = "cot"
    rng_seed: int = 0


def main(config: Config) -> None:
    for family, language in product(config.families, config.languages):
        heading = f"{family}, {language}"
        print(f"{heading}\n{'=' * len(heading)}\n")
        for index in range(config.count):
            level = config.levels[index % len(config.levels)]
            problem = ProblemSet(config.split, (family,), (level,), language, config.rng_seed)[index]
            print(f"{index + 1}. [level {level}] {problem.question}\n{_solution(problem, config)}\n")


def _solution(problem: Problem, config: Config) -> str:
    if config.solution == "cot":
        return problem.solution
    return problem.program if config.solution == "program" else problem.tool_solution


if __name__ == "__main__":
    run_script(main, {"default": Config()})
