"""Tool-integrated reasoning: the program of a transcript, and what of its output the model is shown.

The model writes a ```python block and prompts.TOOL_STOP; the sandbox runs tool_program of the text so far; tool_output goes
in by prompts.tool_text. Source of the rules: the released repository's evaluation/infer/run_tool_integrated_eval.py.
Left out on purpose: running anything.
"""

import re

from dsm_jax.data.prompts import TOOL_STOP
from dsm_jax.evaluate.prompts.paper import PAPER
from dsm_jax.evaluate.prompts.programs import FENCE
from dsm_jax.tokenizer import Tokenizer

OPENING, FAILED = "```python", "Runtime errors:"
_FRAME = re.compile(r'\s*File "(.*)", line \d+, in (.*)')
MAX_ERROR = 10_000  # characters: of a longer error only the ends are looked at


def tool_program(text: str) -> str:
    """All ```python blocks so far, of the earlier ones no top-level prints; "" where the text does not end with a block.

    text: the completion so far, with or without TOOL_STOP at its end.
    """
    text = text.rstrip().removesuffix(TOOL_STOP).rstrip()
    if not text.endswith(FENCE):
        return ""
    parts = [part.partition(FENCE)[0].strip() for part in text.split(OPENING)[1:] if FENCE in part]
    *earlier, last = [part for part in parts if part] or [""]
    return "\n".join([*map(_without_prints, earlier), last])


def tool_status(text: str) -> str:
    """How the programs of a whole transcript ended: "ok", "error" where one failed, "" where there is none."""
    if f"{TOOL_STOP}\n" not in text:
        return ""
    return "error" if f"{TOOL_STOP}\n{FAILED}" in text else "ok"


def tool_output(stdout: str, error: str, tokenizer: Tokenizer) -> str:
    """What the model is shown of a run: its output, of a long one both ends; of a failed one its error instead.

    error: a traceback or another reason, "" where the program ended well.
    """
    text, keep = stdout.strip(), PAPER.output_characters
    if not error and text:
        return text if len(text) <= 2 * keep else f"{text[:keep]}...{text[-keep:]}".strip()
    message, keep = _concise(error), PAPER.error_tokens
    tokens = tokenizer.encode(message)
    if len(tokens) > 2 * keep:
        first, last = tokenizer.decode(tokens[:keep]), tokenizer.decode(tokens[-keep:])
        message = f"{first.strip()} ... {last.strip()}"
    return f"{FAILED} {message}".strip()


def _without_prints(block: str) -> str:
    lines = block.split("\n")
    return "\n".join(line for line in lines if line.startswith("    ") or "print(" not in line)


def _concise(error: str) -> str:
    """A traceback without its title, the text of the program's own lines, and the places of files."""
    error, half = error.strip(), MAX_ERROR // 2
    lines, own = [], False
    for line in (error if len(error) <= MAX_ERROR else f"{error[:half]}\n{error[-half:]}").splitlines():
        if frame := _FRAME.match(line):
            file, function = frame.groups()
            own = file.startswith("<")
            if function != "<module>":
                lines.append(f'  File "{_installed(file)}", in {function}' if not own else f"  in {function}")
        elif not (own and line.startswith("    ")) and not line.startswith(
            "Traceback (most recent call last)"
        ):
            own = False
            lines.append(line)
    return "\n".join(lines).strip()


def _installed(file: str) -> str:
    """The path from site-packages on, or its name."""
    _, found, path = file.rpartition("site-packages/")
    return found + path if found else file.rpartition("/")[2]
