"""The sampler: its log-probs are the trainer's, and a completion depends on its own request alone."""

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mesh import parse_mesh, single_device_mesh
from dsm_jax.model import Model
from dsm_jax.model.config import LoRA, RopeScaling
from dsm_jax.model.decoder import bind
from dsm_jax.model.lora import start as start_lora
from dsm_jax.model.lora import whole
from dsm_jax.model.params import init_params
from dsm_jax.sample import Request, Sampler
from dsm_jax.train.logps import token_logps
from tests.sample.models import (
    CONFIG,
    ONE_LAYER,
    Endless,
    Letters,
    assert_all_same,
    assert_same,
    assert_trainers,
    params_of,
    sampler_of,
)

PROMPTS = ["one", "two plus two is more", "one", "x" * 40] + [f"question {i}" * (1 + i % 3) for i in range(8)]
OPTIONS = {"n": 3, "max_new_tokens": 40, "temperature": 1.3, "seed": 5}
SCALINGS = {
    "linear": RopeScaling("linear", factor=2.0),
    "llama3": RopeScaling("llama3", factor=4.0, original_max_seq_len=64),
}


def ids(prompt: str) -> list[int]:
    return [1, *Letters().encode(prompt)]


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.8, "top_p": 0.9, "top_k": 100}, {"min_p": 0.02}, {"temperature": 0.0}]
)
def test_logps_are_the_trainers(options: dict) -> None:
    request = Request("", **OPTIONS | options)
    ended = []
    for prompt, row in zip(PROMPTS, sampler_of(CONFIG).generate(PROMPTS, **OPTIONS | options), strict=True):
        for completion in row:
            assert_trainers(CONFIG, ids(prompt), request, completion)
            assert completion.finished == (completion.tokens[-1] == 2)
            assert 2 not in completion.tokens[:-1]
            ended.append(completion.finished)
    assert 0 < sum(ended) < len(ended) or request.temperature == 0


@pytest.mark.parametrize("scaling", SCALINGS)
def test_logps_are_the_trainers_under_rope_scaling(scaling: str) -> None:
    config = dataclasses.replace(CONFIG, rope_scaling=SCALINGS[scaling])
    for prompt, row in zip(PROMPTS[:4], sampler_of(config).generate(PROMPTS[:4], **OPTIONS), strict=True):
        for completion in row:
            assert_trainers(config, ids(prompt), Request("", **OPTIONS), completion)


def test_logps_are_the_trainers_while_caches_grow_and_slots_shrink() -> None:
    sampler = sampler_of(CONFIG, tokenizer=Endless(), slots=16)
    lengths = [300, 290, 17, 150] + [5] * 28
    requests = [
        Request(ids(f"{i} of many"), max_new_tokens=length, seed=i) for i, length in enumerate(lengths)
    ]
    for request, (completion,) in zip(requests, sampler.generate(requests), strict=True):
        assert len(completion.tokens) == request.max_new_tokens and completion.finish_reason == "length"
        assert_trainers(CONFIG, request.prompt, request, completion)
    names = {program.name for program in sampler.usage.programs}
    assert names == {"empty", "prefill", "place", "decode", "grow", "take"}


def test_slots_chunks_and_order_change_nothing() -> None:
    completions = sampler_of().generate(PROMPTS, **OPTIONS)
    assert_all_same(completions, sampler_of(slots=48, chunk=5).generate(PROMPTS, **OPTIONS))
    alone = [sampler_of(slots=1).generate([PROMPTS[i]], **OPTIONS)[0] for i in (1, 3)]
    assert_all_same([completions[1], completions[3]], alone)
    backwards = sampler_of(slots=5).generate(PROMPTS[3:][::-1], **OPTIONS)[::-1]
    assert_all_same(completions[3:], backwards)


@pytest.mark.slow
def test_other_requests_of_other_kinds_change_nothing() -> None:
    kinds = [
        {"temperature": 0.0, "max_new_tokens": 3},
        {"top_p": 0.5, "max_new_tokens": 33},
        {"top_k": 4, "seed": 9, "max_new_tokens": 64},
        {"min_p": 0.3, "stop_token_ids": [70, 71, 72], "max_new_tokens": 90},
        {"stop": ["a", "tt"], "max_new_tokens": 70},
        {"temperature": 0.7, "n": 2, "max_new_tokens": 12},
    ]
    requests = [Request(f"prompt {i}" * (1 + 3 * (i % 2)), **kind) for i, kind in enumerate(kinds * 2)]
    together = sampler_of().generate(requests)
    for request, row in zip(requests, together, strict=True):
        assert_all_same([row], sampler_of(slots=2).generate([request]))
        assert len(row) == request.n


def test_a_prompt_that_stands_twice_gets_other_completions() -> None:
    completions = sampler_of().generate(PROMPTS, **OPTIONS)
    assert PROMPTS[0] == PROMPTS[2]
    assert not np.array_equal(completions[0][0].tokens, completions[2][0].tokens)
    assert len({tuple(c.tokens) for c in completions[1]}) == 3
    named = sampler_of().generate(["one", "one"], prompt_ids=[4, 4], **OPTIONS)
    assert_all_same(named[:1], named[1:])


@pytest.mark.parametrize("parts", [(1, 5), (2, 2, 2), (1, 1, 4), (6,)], ids=str)
def test_samples_drawn_in_parts_are_those_drawn_at_once(parts: tuple[int, ...]) -> None:
    whole = sampler_of().generate([Request(text, n=6, seed=5, max_new_tokens=9) for text in PROMPTS[:2]])
    sampler, found = sampler_of(slots=3), [[], []]
    for first, n in zip(np.cumsum((0, *parts)).tolist(), parts, strict=False):
        requests = [Request(text, n=n, first_sample=first, seed=5, max_new_tokens=9) for text in PROMPTS[:2]]
        assert {one.sample for one in sampler.stream(requests)} == set(range(first, first + n))
        for row, more in zip(found, sampler.generate(requests), strict=True):
            row.extend(more)
    assert_all_same(found, whole)


@pytest.mark.parametrize(
    "mesh",
    [
        "data=2,fsdp=2,tensor=2",
        *(pytest.param(mesh, marks=pytest.mark.slow) for mesh in ("fsdp=8", "fsdp=1,tensor=2,data=4")),
    ],
)
def test_eight_devices_give_the_same_completions(mesh: str) -> None:
    config = dataclasses.replace(CONFIG, d_model=64)
    here = sampler_of(config).generate(PROMPTS, **OPTIONS, top_p=0.95)
    assert_all_same(
        here, sampler_of(config, parse_mesh((mesh,)), slots=16).generate(PROMPTS, **OPTIONS, top_p=0.95)
    )


@contextmanager
def keys_as_rows() -> Iterator[None]:
    """The layout of caches on GPU and TPU; nothing that was compiled in it stays, also where a check fails."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("model.attention", "model.layer", "model.decoder", "sample.decode"):
            patch.setattr(f"dsm_jax.{module}.keys_are_columns", lambda platform: False)
        jax.clear_caches()
        try:
            yield
        finally:
            jax.clear_caches()


@pytest.mark.slow
def test_keys_as_rows_give_the_same() -> None:
    columns = sampler_of(CONFIG).generate(PROMPTS, **OPTIONS)
    with keys_as_rows():
        assert_all_same(columns, sampler_of(CONFIG).generate(PROMPTS, **OPTIONS))
        long = sampler_of(CONFIG, tokenizer=Endless()).generate(["long"], max_new_tokens=300)[0][0]
    assert_trainers(CONFIG, ids("long"), Request(""), long)


def test_a_chain_of_prefixes_is_prefilled_once_and_changes_nothing() -> None:
    """A solution's steps, as labelling asks for them: each prompt begins the next one."""
    steps = [ids("a question: " + "step by step. " * count) for count in range(1, 6)]
    sampler = sampler_of()
    chained = sampler.generate(steps, **OPTIONS)
    assert sampler.usage.prefill_tokens == len(steps[-1]) - 1
    assert_all_same(chained, [sampler_of().generate([step], **OPTIONS)[0] for step in steps])


def test_a_prompt_is_prefilled_once_for_its_group() -> None:
    sampler = sampler_of()
    sampler.generate(["a prompt"], n=8, max_new_tokens=4)
    assert sampler.usage.prefill_tokens == len("a prompt")


def test_a_group_is_prefilled_once_on_many_devices() -> None:
    """Its rows share a device where they have room there."""
    sampler = sampler_of(mesh=parse_mesh(("data=8",)), slots=64)
    sampler.generate([[3 + i] * 9 for i in range(16)], n=4, max_new_tokens=4)
    assert sampler.usage.prefill_tokens == 16 * 8


def test_greedy_takes_the_most_likely_token() -> None:
    greedy = sampler_of(CONFIG).generate(["what is this"], max_new_tokens=30, temperature=0.0)[0][0]
    mesh = single_device_mesh()
    sequence = np.array([[*ids("what is this"), *greedy.tokens.tolist()]], np.int32)

    @jax.jit
    def run(params: dict, ids: jax.Array) -> jax.Array:
        decoder = bind(CONFIG, params)
        return decoder.logits(decoder.hidden(ids, ids * 0))

    with jax.set_mesh(mesh):
        best = np.asarray(run(params_of(CONFIG, mesh), sequence)).argmax(-1)
    np.testing.assert_array_equal(best[0, -len(greedy.tokens) - 1 : -1], greedy.tokens)


def test_pad_ids_may_be_drawn_and_the_end_may_come_first() -> None:
    """Id 0 and the end of sequence are drawn like any other; masks come from lengths."""
    sampler = sampler_of(tokenizer=Endless())
    completions = sampler.generate(["p"], n=64, max_new_tokens=60, temperature=3.0)[0]
    assert any(0 in c.tokens for c in completions) and any(2 in c.tokens for c in completions)
    for completion in completions:
        assert_trainers(ONE_LAYER, ids("p"), Request("", temperature=3.0), completion)
    first = next(token for token in completions[0].tokens[:1].tolist())
    stopped = sampler.generate(["p"], n=64, max_new_tokens=60, temperature=3.0, stop_token_ids=[first])[0]
    assert stopped[0].tokens.tolist() == [first] and stopped[0].finished and stopped[0].text == ""
    for cut, whole_one in zip(stopped, completions, strict=True):
        np.testing.assert_array_equal(cut.tokens, whole_one.tokens[: len(cut.tokens)])


def test_lora_is_sampled_as_it_is_trained() -> None:
    config = dataclasses.replace(CONFIG, lora=LoRA(rank=4))
    mesh = single_device_mesh()
    base = init_params(CONFIG, 0, mesh)
    part = jax.tree.map(lambda leaf: leaf + 0.02, start_lora(config, base, 1, mesh))
    params = whole(config, base, part)
    sampler = Sampler(config, Letters(), mesh, slots=4)
    sampler.load(params)
    completion = sampler.generate(["lora"], max_new_tokens=20)[0][0]
    sequence = np.array([[*ids("lora"), *completion.tokens.tolist()]], np.int32)
    with jax.set_mesh(mesh):
        run = jax.jit(lambda params, tokens: token_logps(config, params, tokens, tokens * 0 + 1).logps)
        logps = np.asarray(run(params, sequence))[0, -len(completion.tokens) :]
        plain = np.asarray(jax.jit(lambda p, t: token_logps(CONFIG, p, t, t * 0 + 1).logps)(base, sequence))
    np.testing.assert_allclose(completion.logps, logps, atol=1e-5)
    assert np.abs(plain[0, -len(completion.tokens) :] - logps).max() > 1e-2


def test_a_model_brings_its_mesh_and_parameters() -> None:
    mesh = single_device_mesh()
    sampler = Sampler(Model(ONE_LAYER, params_of(ONE_LAYER, mesh)), Letters())
    asked = {"max_new_tokens": 10, "seed": 3}
    assert_all_same(sampler.generate(["a"], **asked), sampler_of().generate(["a"], **asked))


def test_rows_come_as_they_finish_and_their_text_as_it_grows() -> None:
    shown: dict[tuple[int, int], str] = {}

    def show(request: int, sample: int, text: str) -> None:
        shown[request, sample] = shown.get((request, sample), "") + text

    requests = [Request("long", max_new_tokens=60, n=2), Request("short", max_new_tokens=4)]
    sampler = sampler_of(tokenizer=Endless())
    found = list(sampler.stream(requests, on_text=show))
    assert found[0][:2] == (1, 0)
    for request, sample, completion in found:
        assert shown[request, sample] == completion.text != ""
        assert_same(completion, sampler.generate(requests)[request][sample])


def test_the_memory_decides_on_the_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = ids("a") * 3
    few, many = (sampler_of(slots=64, tokenizer=Endless()) for _ in range(2))
    asked = {"n": 64, "max_new_tokens": 100}
    whole_call = many.generate([prompts], **asked)
    monkeypatch.setattr("dsm_jax.sample.sampler.free_everywhere", lambda mesh: many.usage.memory // 3)
    assert_all_same(few.generate([prompts], **asked), whole_call)
    assert few.usage.memory <= many.usage.memory // 3 and few.usage.steps > 2 * many.usage.steps


BAD = [
    (
        Request("a" * 500, max_new_tokens=40),
        "the prompt has 501 tokens, with 40 new ones more than the model's 512",
    ),
    (Request(""), "the prompt is empty"),
    (Request([]), "the prompt is empty"),
    (Request([5, 512]), "token id 512 is outside the vocabulary of 512"),
    (Request([-1]), "token id -1 is outside"),
    (Request("a", n=0), "n is 0; it must be at least 1"),
    (Request("a", n=1.5), "n is 1.5; it must be a whole number"),
    (Request("a", first_sample=-1), "first_sample is -1; it must be at least 0"),
    (Request("a", first_sample=2**31 - 1, n=2), "first_sample 2147483647 and n 2 go beyond 2147483648"),
    (Request("a", max_new_tokens=2.5), "max_new_tokens is 2.5; it must be a whole number"),
    (Request("a", seed=1.5), "seed is 1.5; it must be a whole number"),
    (Request("a", max_new_tokens=0), "max_new_tokens is 0; it must be at least 1"),
    (Request("a", stop=["b", ""]), "a stop string is empty; leave it out"),
    (Request("a", stop=[7]), "stop has something that is no text; tokens go into stop_token_ids"),
    (Request("a", stop_token_ids=[600]), "token id 600 is outside"),
    (Request("a", temperature=-1.0), "temperature is -1.0"),
    (Request("a", temperature=1e-10), "temperature is 1e-10; it must be 0 (greedy) or at least 0.0001"),
    (Request("a", temperature=float("nan")), "temperature is nan"),
    (Request("a", top_p=0.0), "top_p is 0.0; it must be above 0"),
    (Request("a", min_p=1.5), "min_p is 1.5"),
    (Request("a", top_k=-2), "top_k is -2"),
    (Request("a", seed=2**31), "seed is 2147483648"),
    (Request("a" * 600), "the prompt has 601 tokens, and the model's sequences end at 512"),
    (Request(b"abc"), "its prompt or an option is of the wrong kind: the prompt is bytes"),
    (Request(["a"]), "its prompt or an option is of the wrong kind"),
    (Request([5.5]), "its prompt or an option is of the wrong kind"),
    (Request(None), "its prompt or an option is of the wrong kind"),
    (Request("a", temperature="1"), "its prompt or an option is of the wrong kind"),
    (Request("a", stop_token_ids=5), "its prompt or an option is of the wrong kind"),
]


@pytest.mark.parametrize(("bad", "line"), BAD, ids=[line.split(";")[0] for _, line in BAD])
def test_a_bad_request_has_one_line_and_the_others_finish(bad: Request, line: str) -> None:
    good = [Request("first", max_new_tokens=5), Request("last", max_new_tokens=5)]
    first, wrong, last = sampler_of().generate([good[0], bad, good[1]])
    assert_all_same([first, last], sampler_of().generate(good))
    assert [one.finish_reason for one in wrong] == ["error"] and wrong[0].error.startswith(
        f"request 1: {line}"
    )
    assert "\n" not in wrong[0].error and not len(wrong[0].tokens)


def test_a_request_whose_cache_does_not_fit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, requests = sampler_of(), [Request("a", max_new_tokens=20), Request("b", max_new_tokens=500)]
    sampler.generate(requests[:1])
    monkeypatch.setattr("dsm_jax.sample.sampler.free_everywhere", lambda mesh: sampler.usage.memory)
    small, large = sampler.generate(requests)
    assert small[0].finish_reason != "error"
    assert re.match(
        r"request 1: its cache and what decoding takes need [\d.]+ GB on a device, and", large[0].error
    )


def test_a_row_that_is_not_finite_ends_alone() -> None:
    """Its neighbours, and who comes into its slot and place after it, are what they are without it."""
    params = params_of(ONE_LAYER, single_device_mesh())
    requests = [Request([40 + i, 3], max_new_tokens=30 - i, top_k=400) for i in range(6)]
    alone = sampler_of(tokenizer=Endless()).generate(requests)
    drawn = {int(token) for (one,) in alone for token in one.tokens}
    bad = next(token for token in range(100, 512) if token not in drawn)
    embed = np.array(params["embed"])
    embed[bad] = np.nan
    spoiled = [Request([1, bad, 7], max_new_tokens=60), Request([1, bad], max_new_tokens=61)]
    for slots in (1, 2):
        sampler = sampler_of(tokenizer=Endless(), slots=slots)
        sampler.load(params | {"embed": jax.device_put(embed, params["embed"].sharding)})
        first, second, *others = sampler.generate([*spoiled, *requests])
        assert_all_same(others, alone)
        for number, (one,) in enumerate((first, second)):
            assert (
                one.error
                == f"request {number}: the model's log-probabilities are not finite; are its parameters?"
            )


def test_new_parameters_wait_for_the_call_under_way() -> None:
    mesh, sampler = single_device_mesh(), sampler_of(slots=1)
    rows = sampler.stream(["first", "second"], max_new_tokens=20)
    found = [next(rows)]
    sampler.load(init_params(ONE_LAYER, 1, mesh))
    found += rows
    expected = sampler_of(slots=1).generate(["first", "second"], max_new_tokens=20)
    assert_all_same([[one.completion] for one in found], expected)


def test_one_text_is_no_list_of_prompts() -> None:
    with pytest.raises(UserError, match="prompts is one text; give a list"):
        sampler_of().generate("a prompt")
    assert sampler_of().generate([]) == []
    for prompts, options, line in (
        ([Request("a")], {"max_new_tokens": 3}, "a Request has options and a prompt_id of its own"),
        (Request("a"), {}, "prompts is one Request; give a list"),
        (["a"], {"max_tokens": 3}, r"no option max_tokens \(did you mean max_new_tokens\?\)"),
    ):
        with pytest.raises(UserError, match=line):
            sampler_of().generate(prompts, **options)


def test_parameters_of_another_model_leave_those_that_are_there() -> None:
    sampler = sampler_of()
    before = sampler.fingerprint()
    for wrong in (None, {"a": 1}, params_of(dataclasses.replace(ONE_LAYER, d_ff=32), single_device_mesh())):
        with pytest.raises(UserError, match="load: these are not the parameters of this model"):
            sampler.load(wrong)
    assert sampler.fingerprint() == before


def test_prompt_ids_are_one_each() -> None:
    with pytest.raises(UserError, match="2 prompts have 1 prompt_ids; give one each"):
        sampler_of().generate(["a", "b"], prompt_ids=[1])
