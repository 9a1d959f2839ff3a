"""`pip install -e .`, with extras [gpu], [tpu], [beam], [browser], [torch], [lm-eval] and [dev]. Requirements stand in requirements.txt only."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
RUNTIME, DEVELOPMENT = (
    [line.split("  #")[0].strip() for line in part.splitlines() if line and line[0] not in "#-"]
    for part in (ROOT / "requirements.txt").read_text().split("# Development\n")
)
VERSION = (ROOT / "dsm_jax/__init__.py").read_text().split('__version__ = "')[1].split('"')[0]


def jax_with(extra: str) -> list[str]:
    """The same pins of jax, with one of its extras."""
    return [line.replace("jax==", f"jax[{extra}]==") for line in RUNTIME if line.startswith("jax==")]


setup(
    name="dsm-jax",
    version=VERSION,
    description="DeepSeekMath in JAX: mine web pages, pretrain, finetune, GRPO, evaluate",
    license="Apache-2.0",
    packages=find_packages(include=["dsm_jax", "dsm_jax.*"]),
    package_data={
        "dsm_jax.mine.annotate": ["*.html", "*.css", "*.js"],
        "dsm_jax.evaluate.prompts": ["sets/*.toml", "sketches/*.toml"],
    },
    python_requires=">=3.11,<3.13",
    install_requires=RUNTIME,
    extras_require={
        "gpu": jax_with("cuda12"),
        "tpu": jax_with("tpu"),
        "beam": ["apache-beam==2.77.0"],
        "browser": [
            "playwright==1.65.2"
        ],  # tests of the annotation page; drives the chromium that is installed
        "torch": [
            "torch==2.13.0",
            "transformers==5.23.0",
        ],  # the peer of benchmarks and of tests/model/make_goldens.py
        "lm-eval": ["lm-eval==0.4.13"],  # lm-evaluation-harness; without its own extras it brings no torch
        "dev": DEVELOPMENT,
    },
)
