"""How a question is put to the model, in SFT, GRPO and evaluation alike; and which problems an RL step takes.

Left out on purpose: few-shot prompts of base models, system prompts (the paper has none) and several turns.
"""

from typing import Protocol, TypeVar

from dsm_jax.tokenizer import Tokenizer

# Appended to a question for the released models: the repository deepseek-ai/DeepSeek-Math, README.
COT_INSTRUCTION = {
    "en": "\nPlease reason step by step, and put your final answer within \\boxed{}.",
    "zh": "\n请通过逐步推理来解答问题，并把最终答案放置于\\boxed{}中。",
}

Item_co = TypeVar("Item_co", covariant=True)


class RandomAccess(Protocol[Item_co]):
    """Anything with items at 0, 1, 2, .. without end, such as a ProblemSet."""

    def __getitem__(self, index: int, /) -> Item_co: ...


def prompt_text(question: str) -> str:
    """The template of DeepSeekMath's README up to the answer, which begins with a space."""
    return f"User: {question}\n\nAssistant:"


def prompt_ids(question: str, tokenizer: Tokenizer) -> list[int]:
    """bos and the template's ids: what the sampler starts from, and the exact beginning of an SFT example."""
    return [tokenizer.bos_id, *tokenizer.encode(prompt_text(question))]


def problem_batch(problems: RandomAccess[Item_co], step: int, count: int) -> list[Item_co]:
    """The `count` problems of RL step `step`, so that the data state is the step."""
    return [problems[step * count + i] for i in range(count)]
