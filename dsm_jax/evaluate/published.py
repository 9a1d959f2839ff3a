"""Published scores to stand beside ours: tables 2 to 5 of the paper (arXiv 2402.03300), percent.

Left out on purpose: closed models, maj@K entries, and models whose protocol is another one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_TABLES = {
    "few_shot_cot": """
model                   gsm8k math ocw  sat  mmlu_stem cmath gaokao_mathcloze gaokao_mathqa mmlu bbh  humaneval mbpp
Minerva 7B              16.2  14.1 7.7  -    35.6      -     -                -             -    -    -         -
Minerva 62B             52.4  27.6 12.0 -    53.9      -     -                -             -    -    -         -
Minerva 540B            58.8  33.6 17.6 -    63.9      -     -                -             -    -    -         -
Mistral 7B              40.3  14.3 9.2  71.9 51.1      44.9  5.1              23.4          62.4 55.7 28.0      41.4
Llemma 7B               37.4  18.1 6.3  59.4 43.1      43.4  11.9             23.6          -    -    -         -
Llemma 34B              54.0  25.3 10.3 71.9 52.9      56.1  11.9             26.2          -    -    -         -
DeepSeek-Coder-v1.5 7B  -     -    -    -    -         -     -                -             49.1 55.2 43.2      60.4
DeepSeekMath-Base 7B    64.2  36.2 15.4 84.4 56.5      71.7  20.3             35.3          54.9 59.5 40.9      52.6
""",
    "few_shot_pot": """
model                   gsm8k math
Mistral 7B              48.5  18.2
CodeLlama 7B            27.1  17.2
CodeLlama 34B           52.7  23.5
Llemma 7B               41.0  18.6
Llemma 34B              64.6  26.3
DeepSeekMath-Base 7B    66.9  31.4
""",
    "zero_shot_cot": """
model                         gsm8k math mgsm_zh cmath
InternLM2-Math 20B            82.6  37.7 -       -
Qwen 72B                      78.9  35.2 -       -
Math-Shepherd-Mistral 7B      84.1  33.0 -       -
WizardMath-v1.1 7B            83.2  33.0 -       -
DeepSeek-LLM-Chat 67B         84.1  32.6 74.0    80.3
MetaMath 70B                  82.3  26.6 66.4    70.9
SeaLLM-v2 7B                  78.2  27.5 64.8    -
ChatGLM3 6B                   72.3  25.7 -       -
WizardMath-v1.0 70B           81.6  22.7 64.8    65.4
DeepSeekMath-Instruct 7B      82.9  46.8 73.2    84.6
DeepSeekMath-RL 7B            88.2  51.7 79.6    88.8
""",
    "tool": """
model                         gsm8k math mgsm_zh cmath
InternLM2-Math 20B            80.7  54.3 -       -
DeepSeek-LLM-Chat 67B         86.7  51.1 76.4    85.4
ToRA 34B                      80.7  50.8 41.2    53.4
MAmmoTH 70B                   76.9  41.8 -       -
DeepSeekMath-Instruct 7B      83.7  57.4 72.0    84.3
DeepSeekMath-RL 7B            86.7  58.8 78.4    87.6
""",
}
# Which table of the paper each protocol's numbers are from.
SOURCES = {
    "few_shot_cot": "tables 2 and 4",
    "few_shot_pot": "table 3",
    "zero_shot_cot": "table 5, chain of thought",
    "tool": "table 5, tool-integrated",
}


@dataclass(frozen=True)
class Published:
    """A model's published accuracies in percent, by benchmark; those that are not published are left out."""

    model: str
    scores: Mapping[str, float]


def published(protocol: str) -> list[Published]:
    """The paper's rows for a protocol, its own model last."""
    header, *rows = _TABLES[protocol].strip().split("\n")
    names = header.split()[1:]
    found = []
    for row in rows:
        model, cells = row[: header.index(names[0])].strip(), row[header.index(names[0]) :].split()
        numbers = {name: float(cell) for name, cell in zip(names, cells, strict=True) if cell != "-"}
        found.append(Published(model, numbers))
    return found
