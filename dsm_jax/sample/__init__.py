"""Sampling in the training process, over the training mesh and parameters."""

from dsm_jax.sample.sampler import Completion, Sampler

__all__ = ["Completion", "Sampler"]
