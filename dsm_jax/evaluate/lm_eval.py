"""Our sampler as a model of lm-evaluation-harness (EleutherAI; the extra [lm-eval]), for its tasks and its way of scoring.

    python -m dsm_jax.evaluate.lm_eval run --model dsm_jax --model_args model=DIR,dtype=bfloat16,fsdp=8 --tasks gsm8k

or lm_eval.simple_evaluate(model=DsmLM(sampler), tasks=[...]). Texts are cut and joined as its own models do it, and each
gets bos in front. The sampler makes its batches itself: --batch_size and --device are not looked at.
Left out on purpose: chat templates (a task's doc_to_text can write ours), several processes, requests with images.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import maybe_truncate, normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window, simple_parse_args_string
from tqdm import tqdm

from dsm_jax.errors import UserError
from dsm_jax.mesh import AXES, parse_mesh
from dsm_jax.sample.loading import find_model, load_sampler
from dsm_jax.sample.request import Request, require_answers
from dsm_jax.sample.sampler import Sampler

MAX_GEN_TOKS = 256  # new tokens where a task does not say; lm-evaluation-harness's own
SAMPLING = ("top_p", "top_k", "min_p", "seed")  # generation options that are a Request's too
ARGUMENTS = ("model", "dtype", "slots", "mesh", "add_bos_token")  # of --model_args, and the axes of a mesh
ITS_OWN = ("batch_size", "max_batch_size", "device")  # what its command line adds


@register_model("dsm_jax")
class DsmLM(TemplateLM):
    """A sampler with its parameters. add_bos_token: False for models that never saw bos (Qwen)."""

    def __init__(self, sampler: Sampler, *, add_bos_token: bool = True):
        super().__init__()
        self.sampler, self.add_bos_token = sampler, add_bos_token
        self.max_length = sampler.config.max_seq_len

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict | None = None) -> DsmLM:
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict | None = None) -> DsmLM:
        """Of model (a folder, a hub id, a run of ours), dtype, slots, mesh (a name) or its axes, add_bos_token."""
        given = {name: value for name, value in arg_dict.items() if name not in ITS_OWN}
        if unknown := next((name for name in given if name not in (*ARGUMENTS, *AXES)), None):
            known = ", ".join((*ARGUMENTS, *AXES))
            raise UserError(f"--model_args {unknown}: not known; known are {known}")
        axes = [f"{name}={given[name]}" for name in AXES if name in given]
        mesh = parse_mesh([given.get("mesh", ""), *axes])
        found = find_model(str(given.get("model", "")))
        sampler = load_sampler(found, mesh, dtype=given.get("dtype"), slots=given.get("slots"))
        return cls(sampler, add_bos_token=given.get("add_bos_token", True))

    @property
    def eot_token_id(self) -> int:
        return self.sampler.tokenizer.eos_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before the first token that is scored, where there is no context."""
        return self.sampler.tokenizer.bos_id

    @property
    def max_gen_toks(self) -> int:
        return MAX_GEN_TOKS

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """add_special_tokens False: without bos. A special token that the text spells stays text."""
        ids = self.sampler.tokenizer.encode(string)
        bos = self.add_bos_token if add_special_tokens is None else add_special_tokens
        return [self.sampler.tokenizer.bos_id, *ids] if bos else ids

    # Generation

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """One completion of each request (context, generation options), without what stopped it."""
        texts: list[str] = [""] * len(requests)
        asked = [self._request(*request.args) for request in requests]
        with tqdm(total=len(asked), disable=disable_tqdm, desc="generate_until") as bar:
            for number, _, completion in self.sampler.stream(asked):
                require_answers([[completion]])
                texts[number] = completion.text
                self.cache_hook.add_partial("generate_until", requests[number].args, completion.text)
                bar.update()
        return texts

    def _request(self, context: str, options: Mapping[str, Any]) -> Request:
        """A context too long for its model and its completion loses its beginning, bos too."""
        options = dict(normalize_gen_kwargs(dict(options), self.max_gen_toks))
        most, until = options.pop("max_gen_toks"), options.pop("until")
        temperature = float(options.pop("temperature", 1.0)) if options.pop("do_sample") else 0.0
        options.pop("temperature", None)
        if options.pop("num_beams", 1) != 1 or not set(options) <= set(SAMPLING):
            known = ", ".join(("until", "max_gen_toks", "do_sample", "temperature", *SAMPLING))
            raise UserError(f"generation options {dict(options)}: not known; known are {known}")
        if most >= self.max_length:
            raise UserError(
                f"max_gen_toks {most} leaves no room for a prompt in the model's {self.max_length}; lower it"
            )
        ids = self.tok_encode(context) or [self.prefix_token_id]
        prompt, most = maybe_truncate(ids, max_gen_toks=most, max_model_len=self.max_length)
        stop = tuple(text for text in until if text)
        return Request(prompt, max_new_tokens=most, temperature=temperature, stop=stop, **options)

    # Likelihoods; `loglikelihood` itself, which makes tokens of texts, is TemplateLM's

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
        disable_tqdm: bool = False,
        **kwargs: Any,
    ) -> list[tuple[float, bool]]:
        """Of (key of the cache, context, continuation): log p(continuation | context), and whether it is greedy."""
        for key, _, continuation in requests:
            if not 0 < len(continuation) <= self.max_length:
                raise UserError(
                    f"a continuation has {len(continuation)} tokens of its own, and the model takes 1 to {self.max_length}: {key!r:.200}"
                )
        texts = [(context + own)[-(self.max_length + 1) :] for _, context, own in requests]
        with tqdm(total=len(texts), disable=disable_tqdm, desc="loglikelihood") as bar:
            scores = self.sampler.logps(texts, on_finish=partial(bar.update, 1))
        answers = []
        for (key, _, own), (logps, greedy) in zip(requests, scores, strict=True):
            answers.append((float(logps[-len(own) :].sum(dtype="float64")), bool(greedy[-len(own) :].all())))
            if key is not None:
                self.cache_hook.add_partial("loglikelihood", key, answers[-1])
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:
        """log p of each whole text (string,); one longer than the model's sequences in windows as long as these."""
        windows = [self._windows(request.args[0]) for request in requests]
        flat = [(None, *window) for of_text in windows for window in of_text]
        scores = iter(self._loglikelihood_tokens(flat, disable_tqdm))
        totals = [sum((next(scores)[0] for _ in of_text), 0.0) for of_text in windows]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def _windows(self, text: str) -> list[tuple[list[int], list[int]]]:
        ids = self.tok_encode(text, add_special_tokens=False)
        rolling = get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1)
        return [make_disjoint_window(window) for window in rolling]


def main() -> None:
    """lm-evaluation-harness's own command line, with the model dsm_jax."""
    from lm_eval.__main__ import cli_evaluate

    try:
        cli_evaluate()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
