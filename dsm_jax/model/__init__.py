"""The decoder: its shape, its arithmetic, Hugging Face folders in and out."""

from dsm_jax.model.config import ModelConfig, param_count
from dsm_jax.model.hf import Model, load_hf, save_hf

__all__ = ["Model", "ModelConfig", "load_hf", "param_count", "save_hf"]
