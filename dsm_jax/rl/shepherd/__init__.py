"""Automatic labels of steps (Math-Shepherd, arXiv 2312.08935): a step is as good as what can still be made of it."""
