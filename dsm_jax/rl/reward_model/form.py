"""What a reward model is beside its decoder, the content of reward_model.json: what it judges, where its score is read, how
it is given."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from dsm_jax.errors import UserError
from dsm_jax.rl.reward_model.readout import Readout
from dsm_jax.rl.steps.segments import Splitting

FILE = "reward_model.json"
Kind = Literal["process", "outcome"]  # a score at the end of each step, or one at the last token
Scale = Literal["probability", "logit"]  # the sigmoid of the score, or the score


@dataclass(frozen=True)
class Form:
    """How a reward model reads a solution."""

    readout: Readout
    kind: Kind = "process"
    splitting: Splitting = "lines"  # of solutions that come without the ends of their steps
    # text that is put behind each step, where the score is read then (" ки" of Math-Shepherd's released model); None: at the
    # step's own last token
    step_tag: str | None = None
    scale: Scale = "probability"  # of the scores that it gives

    def __post_init__(self) -> None:
        for name, kinds in (("kind", Kind), ("splitting", Splitting), ("scale", Scale)):
            if getattr(self, name) not in get_args(kinds):
                raise UserError(
                    f"reward model: {name} is {getattr(self, name)!r}; it must be one of {', '.join(get_args(kinds))}"
                )
        if self.step_tag is not None and not self.step_tag.strip():
            raise UserError(
                "reward model: step_tag is empty; null reads the score at a step's own last token"
            )


def to_json(form: Form, fingerprint: str) -> dict[str, Any]:
    """The file's entries. fingerprint: of the tokenizer in the folder."""
    return asdict(form.readout) | {
        name: value for name, value in asdict(form).items() if name != "readout"
    } | {"tokenizer": fingerprint}  # fmt: skip


def from_json(entries: Any, file: Path, rows: int) -> Form:
    """The form, of a model with so many ids. Raises UserError naming the file and the entry that is wrong."""
    wanted = {"plus", "minus", "kind", "splitting", "step_tag", "scale", "tokenizer"}
    if not isinstance(entries, dict) or set(entries) != wanted:
        raise UserError(f"{file}: its entries must be {', '.join(sorted(wanted))}: make it again")
    for name in ("plus", "minus"):
        token = entries[name]
        if not (name == "minus" and token is None) and not (type(token) is int and 0 <= token < rows):
            raise UserError(f"{file}: {name} is {token!r}; it must be a token's id below {rows}")
    if not isinstance(entries["step_tag"], str | None):
        raise UserError(f"{file}: step_tag is {entries['step_tag']!r}; it must be text or null")
    own = {name: entries[name] for name in ("kind", "splitting", "step_tag", "scale")}
    try:
        return Form(Readout(entries["plus"], entries["minus"]), **own)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
