"""How a question is put to the model, in SFT, GRPO and evaluation alike.

A conversation is the same template again behind the end of sequence (the repository deepseek-ai/DeepSeek-Math, README).
An answer may call a tool: the model writes a program and TOOL_STOP, the sandbox's answer is inserted, the model goes on.
Left out on purpose: few-shot prompts of base models (evaluate/prompts).
"""

from collections.abc import Iterable

from dsm_jax.tokenizer import Tokenizer

# Appended to a question for the released models: the repository deepseek-ai/DeepSeek-Math, README.
COT_INSTRUCTION = {
    "en": "\nPlease reason step by step, and put your final answer within \\boxed{}.",
    "zh": "\n请通过逐步推理来解答问题，并把最终答案放置于\\boxed{}中。",
}
# The same for answers with programs that are run on the way.
TOOL_INSTRUCTION = {
    "en": "\nPlease integrate natural language reasoning with programs to solve the problem above, "
    "and put your final answer within \\boxed{}.",
    "zh": "\n请结合自然语言和Python程序语言来解答问题，并把最终答案放置于\\boxed{}中。",
}

# What the model writes to have its program run, and where sampling stops; the released evaluation stops there too.
TOOL_STOP = "```output"
# How a turn is written, by role; a system prompt as in the released tokenizer's chat template.
TURNS = {"system": "{text}\n\n", "user": "User: {text}\n\n"}


def prompt_text(question: str) -> str:
    """The template of DeepSeekMath's README up to the answer, which begins with a space."""
    return turns_text([("user", question)])


def turns_text(turns: Iterable[tuple[str, str]]) -> str:
    """(role, text) turns of user and system up to an answer."""
    return "".join(TURNS[role].format(text=text) for role, text in turns) + "Assistant:"


def tool_text(output: str) -> str:
    """What is inserted behind TOOL_STOP: the rest of the fenced block that holds the program's output."""
    return f"\n{output}\n```\n"


def prompt_ids(question: str, tokenizer: Tokenizer) -> list[int]:
    """bos and the template's ids: what the sampler starts from, and the exact beginning of an SFT example."""
    return [tokenizer.bos_id, *tokenizer.encode(prompt_text(question))]
