"""DSM-JAX: DeepSeekMath from web pages to a model improved by GRPO, in JAX.

Mining, pretraining, supervised finetuning, GRPO and evaluation live in the sub-packages; scripts in experiments/ join them.
Importing this package imports nothing else: each stage brings only what it needs.
"""

__version__ = "0.1.0"
