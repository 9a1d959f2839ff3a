"""Sampling in the training process, over the training mesh and parameters."""

from dsm_jax.sample.request import Completion, Request, Tool
from dsm_jax.sample.sampler import Sampler

__all__ = ["Completion", "Request", "Sampler", "Tool"]
