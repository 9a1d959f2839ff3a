"""A reward model at work: prompts and completions in, a score for each step out.

Whole texts go through the sampler's prefill, texts of like lengths together, and a head of one or two columns: a score
depends on its own text alone, but for the rounding of the last bits, which other shapes and meshes may turn. Of several
processes every one makes the same call and gets all scores.
Left out on purpose: a prompt computed once for its completions; scores while a text is being written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache

import jax
import numpy as np
from jax.sharding import Mesh

from dsm_jax.errors import UserError
from dsm_jax.mesh import replicated
from dsm_jax.model import Model
from dsm_jax.model.config import ModelConfig
from dsm_jax.model.decoder import Params
from dsm_jax.rl.reward_model.examples import Read, read_text, read_tokens
from dsm_jax.rl.reward_model.form import Form, Kind, Scale
from dsm_jax.rl.reward_model.readout import Readout, difference, head_columns
from dsm_jax.rl.steps.segments import Splitting, step_ends
from dsm_jax.rl.steps.token_ends import token_ends
from dsm_jax.sample.sampler import Sampler
from dsm_jax.tokenizer import Tokenizer

Ends = Sequence[int] | np.ndarray


class RewardModel:
    """Scores by a Model, or by the parameters last given to `load`. mesh: of a Model its own."""

    def __init__(
        self, model: Model | ModelConfig, form: Form, tokenizer: Tokenizer, mesh: Mesh | None = None
    ):
        config = model.config if isinstance(model, Model) else model
        self.form, self.tokenizer, self.config = form, tokenizer, config
        self.sampler = Sampler(config, tokenizer, mesh or (model.mesh if isinstance(model, Model) else None))
        self._head = np.empty(0)
        if isinstance(model, Model):
            self.load(model.params)

    @property
    def kind(self) -> Kind:
        return self.form.kind

    def load(self, params: Params) -> None:
        """Takes new parameters, in the training layout."""
        self.sampler.load(params)
        mesh = self.sampler.mesh
        with jax.set_mesh(mesh):
            self._head = np.asarray(_columns(self.config, self.form.readout, mesh)(params))

    def unload(self) -> None:
        """Lets go of the parameters, so that others have their memory."""
        self.sampler.unload()

    def fingerprint(self) -> str:
        """A short name of the loaded parameters and the form: where it is equal, so are the scores."""
        named = f"{self.sampler.fingerprint()} {self.form}"
        return hashlib.sha256(named.encode()).hexdigest()[:16]

    def require_policy(self, tokenizer: Tokenizer, splitting: Splitting) -> None:
        """UserError as require_fitting."""
        require_fitting(self.form, self.tokenizer, tokenizer, splitting)

    def require_room(self, prompt: int, completion: int) -> None:
        """UserError as require_room."""
        require_room(self.config, prompt, completion)

    def score(
        self,
        prompts: Sequence[str],
        completions: Sequence[str | Ends],
        ends: Sequence[Ends] | None = None,
        *,
        scale: Scale | None = None,
    ) -> list[np.ndarray]:
        """fp32 [K] each: the chance of each step's completion to be right, or by scale "logit" the score itself.

        completions: texts, which count as whole; or their tokens, the one that ended them among them, whose tokenizer is
        this one (require_policy). ends: [K] of each, of a text the offsets of its steps' ends, of tokens the places of their
        last tokens (completion_ends); None: by the model's own splitting. scale None: the model's own. A completion without
        a step has no score; an outcome reward model gives one to any. Raises UserError for what is too long; what only the step
        tags make too long has scores that are NaN.
        """
        if not len(prompts) == len(completions) == len(completions if ends is None else ends):
            raise UserError(
                f"score: {len(prompts)} prompts, {len(completions)} completions"
                f"{'' if ends is None else f', {len(ends)} times ends'}: give as many of each"
            )
        given: Sequence[Ends | None] = [None] * len(prompts) if ends is None else ends
        reads = [self.read(*one) for one in zip(prompts, completions, given, strict=True)]
        asked = [bool(len(one.places)) and (self.form.step_tag is None or self.fits(one)) for one in reads]
        found = iter(self.logits_at([one for one, is_asked in zip(reads, asked, strict=True) if is_asked]))
        every = [
            next(found) if is_asked else np.full(len(one.places), np.nan, np.float32)
            for one, is_asked in zip(reads, asked, strict=True)
        ]
        return every if (scale or self.form.scale) == "logit" else [probability(one) for one in every]

    def fits(self, read: Read) -> bool:
        """Whether the model reads so many tokens."""
        return len(read.ids) <= self.config.max_seq_len

    def read(
        self, prompt: str, completion: str | Ends, ends: Ends | None = None, *, ended: bool = True
    ) -> Read:
        """The tokens that the model reads, and the places of its scores among them. ended: False for a text that was cut."""
        if isinstance(completion, str):
            ends = step_ends(completion, self.form.splitting) if ends is None else ends
            return read_text(
                self.form, self.tokenizer, prompt, completion, [int(end) for end in ends], ended=ended
            )
        tokens = [int(token) for token in completion]
        places = self._places(tokens) if ends is None else [int(end) for end in ends]
        return read_tokens(self.form, self.tokenizer, prompt, tokens, places)

    def logits_at(self, reads: Sequence[Read]) -> list[np.ndarray]:
        """fp32 [K] of each: the scores at its places."""
        if not reads:
            return []
        scored = self.sampler.score([one.ids for one in reads], self._head)
        return [difference(logits[one.places]) for logits, one in zip(scored, reads, strict=True)]

    def _places(self, tokens: Sequence[int]) -> list[int]:
        """Of a completion's steps by the model's own splitting, the last one ended by the end of sequence if it is there."""
        ends = step_ends(self.tokenizer.decode(tokens), self.form.splitting)
        places = [int(place) for place in token_ends(tokens, ends, self.tokenizer)]
        if places and tokens[-1] == self.tokenizer.eos_id:
            places[-1] = len(tokens) - 1
        return places


def require_fitting(form: Form, own: Tokenizer, policy: Tokenizer, splitting: Splitting) -> None:
    """UserError where a policy's completions cannot be scored by their tokens, as a reward model's own tokenizer takes the
    ids for other text, or where a model of steps has learned from steps that were cut in another way."""
    if form.kind == "process" and splitting != form.splitting:
        raise UserError(
            f"the reward model has learned from steps that are {form.splitting}, the policy's are to be {splitting}: "
            f"set splitting to {form.splitting}, or train one on such steps"
        )
    if not same_ids(own, policy):
        raise UserError(
            "the reward model's tokenizer is not the policy's, whose tokens it is to score: train one from the policy's "
            "own base, or score texts"
        )


def require_room(model: ModelConfig, prompt: int, completion: int) -> None:
    """UserError where prompt and completion of these lengths [tokens] are longer than what a reward model reads. Its tags,
    whose number nobody knows before, are not counted."""
    if (length := prompt + completion) > model.max_seq_len:
        raise UserError(
            f"the reward model reads {model.max_seq_len:,} tokens; the longest prompt and a completion of full length have "
            f"{prompt:,} + {completion:,} = {length:,}: lower max_completion_length, leave long prompts out, or train a "
            "reward model that reads more"
        )


def probability(scores: np.ndarray) -> np.ndarray:
    """The sigmoid, fp32; exact also where a score is large."""
    scores = scores.astype(np.float64)
    small = np.exp(-np.abs(scores))
    return (np.where(scores >= 0, 1.0, small) / (1 + small)).astype(np.float32)


def same_ids(ours: Tokenizer, theirs: Tokenizer) -> bool:
    """Whether the ids of two tokenizers mean the same text; a sentencepiece model and its tokenizer.json do."""
    if ours.fingerprint == theirs.fingerprint:
        return True
    if any(getattr(ours, name) != getattr(theirs, name) for name in ("vocab_size", "bos_id", "eos_id")):
        return False
    every = range(ours.vocab_size)
    return ours.spelled(every) == theirs.spelled(every)


@lru_cache
def _columns(model: ModelConfig, readout: Readout, mesh: Mesh) -> Callable[[Params], jax.Array]:
    return jax.jit(lambda params: head_columns(model, params, readout), out_shardings=replicated(mesh))
