"""A reward model as a folder: the decoder's in Hugging Face's format, and reward_model.json beside it (form.py).

A released one, such as Math-Shepherd's, becomes such a folder by describe_reward_model. reward_model.json comes last: a
folder that has one is complete.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from jax.sharding import Mesh

from dsm_jax.errors import UserError
from dsm_jax.model import Model, load_hf, save_hf
from dsm_jax.model.hf_folder import find_folder, read_config
from dsm_jax.processes import on_first_process
from dsm_jax.rl.reward_model.form import FILE, Form, Kind, from_json, to_json
from dsm_jax.rl.reward_model.readout import two_tokens
from dsm_jax.rl.reward_model.score import RewardModel
from dsm_jax.run import read_json, write_json
from dsm_jax.tokenizer import load_tokenizer


def save_reward_model(model: Model, form: Form, folder: str | Path, tokenizer: str | Path) -> None:
    """Writes the folder. tokenizer: its file or folder. Of several processes all take part, and the first one writes."""
    file = Path(folder) / FILE
    on_first_process(partial(file.unlink, missing_ok=True))
    save_hf(model, folder, tokenizer)
    on_first_process(lambda: save_form(form, Path(folder)))


def describe_reward_model(
    folder: str | Path,
    *,
    plus: str = "+",
    minus: str = "-",
    step_tag: str | None = None,
    kind: Kind = "process",
) -> None:
    """Makes a reward model's folder of a model's that others have trained to write `plus` or `minus`.

    step_tag: the text behind each step at which it writes them, " ки" of Math-Shepherd's.
    """
    tokenizer = load_tokenizer(folder, rows=read_config(Path(folder)).vocab_size)
    form = Form(two_tokens(tokenizer, plus, minus), kind, step_tag=step_tag)
    write_json(Path(folder) / FILE, to_json(form, tokenizer.fingerprint))


def read_form(folder: str | Path) -> Form:
    """What the folder's reward_model.json says. Raises UserError where there is none, or it does not fit the model."""
    folder = find_folder(folder)
    file = folder / FILE
    if not file.is_file():
        raise UserError(
            f"{folder} has no {FILE}: train one with experiments/reward_model_7b.py, or of a model that writes + or - call "
            "dsm_jax.rl.reward_model.folder.describe_reward_model"
        )
    rows = read_config(folder).vocab_size
    entries = read_json(file, "make it again")
    form = from_json(entries, file, rows)
    if load_tokenizer(folder, rows=rows).fingerprint != entries["tokenizer"]:
        raise UserError(
            f"{file}: the tokenizer in its folder is not the one that the model was trained with; bring that back"
        )
    return form


def find_form(folder: Path | None) -> Form | None:
    """What read_form says of a folder that may be another model's, or None; then None."""
    return read_form(folder) if folder and (folder / FILE).is_file() else None


def save_form(form: Form, folder: Path) -> None:
    """Writes reward_model.json into a folder with a shape and a tokenizer."""
    write_json(folder / FILE, to_json(form, load_tokenizer(folder).fingerprint))


def load_reward_model(folder: str | Path, mesh: Mesh | None = None, dtype: str | None = None) -> RewardModel:
    """The reward model of a folder. mesh: None is the first device alone; dtype: None as the folder says."""
    form, folder = read_form(folder), find_folder(folder)
    model = load_hf(folder, mesh, dtype)
    return RewardModel(model, form, load_tokenizer(folder, rows=model.config.vocab_size), mesh)
