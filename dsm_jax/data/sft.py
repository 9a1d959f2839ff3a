"""Supervised finetuning data: question and answer in the template, loss on the answer and eos only, packed.

Several examples share a window without seeing each other (DeepSeekMath, section 3, concatenates up to 4K and
does not say whether its examples attend to each other; ours do not).
Left out on purpose: tool transcripts and several turns.
"""

from collections.abc import Iterable

from dsm_jax.data.prompts import prompt_ids
from dsm_jax.data.windows import Example, Packed, pack_examples
from dsm_jax.errors import UserError
from dsm_jax.tokenizer import Tokenizer


def encode_example(question: str, answer: str, tokenizer: Tokenizer) -> Example:
    """`bos User: {question}\\n\\nAssistant: {answer} eos`, of which " {answer}" and eos are targets.

    Prompt and answer are encoded apart, so that the prompt's ids are those that the sampler starts from.
    """
    prompt = prompt_ids(question, tokenizer)
    answer_ids = [*tokenizer.encode(f" {answer}"), tokenizer.eos_id]
    return Example(prompt + answer_ids, [False] * len(prompt) + [True] * len(answer_ids))


def sft_windows(pairs: Iterable[tuple[str, str]], tokenizer: Tokenizer, length: int) -> Packed:
    """Windows of `length` tokens of (question, answer) pairs, and how many pairs were too long for one.

    Errors: UserError where no pair fits.
    """
    packed = pack_examples((encode_example(q, a, tokenizer) for q, a in pairs), length)
    if not packed.windows:
        raise UserError(
            f"no SFT example fits into {length} tokens ({packed.dropped} were too long): give examples, "
            "or a longer window"
        )
    return packed
