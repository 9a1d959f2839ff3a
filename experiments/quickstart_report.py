"""The quickstart's report.html: what came out first, then where it comes from, then how it was made.

Everything is read from the run's folder and from results.json's content; controls that were not trained are
not drawn. Left out on purpose: judgement beyond what the intervals say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from label_steps_report import HEADER as LABELS_HEADER
from label_steps_report import truth_rows
from mining_report import mining_parts
from quickstart_results import percent, points, supervised
from reward_model_report import HEADER as MEASURES_HEADER
from reward_model_report import measure_rows

from dsm_jax.evaluate.figures import (
    Picture,
    calibration_curves,
    curves,
    horizontal_bars,
    interval_bars,
    metric_points,
)
from dsm_jax.evaluate.harness import Answers, accuracy_by
from dsm_jax.evaluate.report import Section, Table, write_report
from dsm_jax.evaluate.scores import Interval
from dsm_jax.model.config import ModelConfig, param_count
from dsm_jax.run import DONE, read_json, read_metrics

CONTROLS = {
    "random_reward": "random rewards",
    "shuffled_reward": "shuffled rewards",
    "sft_longer": "SFT continued",
}
PROCESS = "process_reward"
MODELS = {"base": "base", "sft": "SFT", "grpo": "GRPO", PROCESS: "GRPO, process rewards too"} | CONTROLS
SCORES = {"greedy": "greedy", "boxed": "boxed", "greedy_boxed": "greedy of boxed"}
STAGES = (
    "mine", "tokenise", "pretrain", "sft", "grpo", *CONTROLS, "labels", "reward_model", PROCESS, "evaluate",
)  # fmt: skip
EXAMPLES = {"gained": 3, "lost": 2, "both wrong": 2}  # completions shown of each kind


def write_quickstart_report(out: Path, results: Mapping[str, Any]) -> None:
    """Writes out/report.html, complete or not at all. results: the content of results.json."""
    config = read_json(out / "config.json")
    greedy = {
        name: read_answers(out / "eval" / name / "greedy.jsonl")
        for name in MODELS
        if name in results["models"]
    }
    sections = [
        Section("Result", (*_result(results), _configured(config))),
        Section("Where the gain comes from", _gain(results)),
        Section("By family and level", tuple(_by_family(greedy))),
        Section("GRPO, step by step", tuple(_grpo_curves(out))),
        *_supervision(out, results),
        Section("Answers before and after", _examples(greedy["sft"], greedy["grpo"])),
        Section("Pretraining and SFT", tuple(_losses(out, config["small"]))),
        Section("Mining", tuple(mining_parts(results["corpus"]))),
        Section("Seconds", (_seconds(results["seconds"]),)),
        Section("Configuration", (_configuration(config),)),
    ]
    write_report(out / "report.html", "Quickstart: from crawl to GRPO", _lead(results, config), sections)


def read_answers(path: Path) -> list[Answers]:
    """The rows of one of the run's eval/MODEL/*.jsonl."""
    return [Answers(**row) for row in read_metrics(path)]


def _lead(results: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    sft, grpo = (results["models"][name]["greedy"] for name in ("sft", "grpo"))
    paired = {name.removeprefix("grpo-"): difference for name, difference in results["paired"].items()}
    told = [
        name for name in paired if name in ("sft", PROCESS) or (name in CONTROLS and paired[name]["high"] < 0)
    ]
    corpus, parameters = results["corpus"], param_count(ModelConfig(**config["small"]["model"]))
    return (
        f"A decoder of {parameters / 1e6:.2f}M parameters, made on this machine in "
        f"{results['seconds']['total'] / 60:.1f} minutes: {corpus['pages_in']:,} pages were mined down to "
        f"{corpus['pages_kept']:,}, a tokenizer and a base model trained on them and on problem text, then "
        f"SFT on {config['small']['sft_problems']:,} worked solutions and "
        f"{config['small']['grpo']['loop']['steps']:,} steps of GRPO. "
        f"On {sft['n']:,} held-out problems SFT answers {sft['value']:.1%} right and GRPO "
        f"{grpo['value']:.1%}. " + " ".join(verdict(name, paired[name]) for name in told)
    )


# Result


def verdict(name: str, difference: Mapping[str, float]) -> str:
    """One sentence on the paired difference, GRPO less the model `name`."""
    label, basis = MODELS[name], f"paired 95% interval, n = {difference['n']:,}"
    if difference["low"] > 0:
        return f"GRPO beats {label}: {points(difference)} points, {basis}."
    if difference["high"] < 0:
        lead = {"value": -difference["value"], "low": -difference["high"], "high": -difference["low"]}
        what = (
            "GRPO made it worse: " if name == "sft" else "A control beats GRPO: " if name in CONTROLS else ""
        )
        return f"{what}{label} is ahead by {points(lead)} points, {basis}."
    return (
        f"GRPO against {label} is undecided, the interval includes 0: {points(difference)} points, {basis}."
    )


def _result(results: Mapping[str, Any]) -> tuple[str | Table | Picture, ...]:
    models = {name: results["models"][name] for name in MODELS if name in results["models"]}
    sampled = [key for key in models["sft"] if "@" in key]
    columns = [key for key in (*SCORES, *sampled) if any(key in scores for scores in models.values())]
    rows = tuple(
        (MODELS[name], *(percent(scores[key]) if key in scores else "-" for key in columns))
        for name, scores in models.items()
    )
    paired = [
        verdict(name, results["paired"][f"grpo-{name}"]) for name in models if name not in ("base", "grpo")
    ]
    return (
        "\n\n".join(paired),
        "In percent, with 95% intervals:",
        Table(("model", *(SCORES.get(key, key) for key in columns)), rows),
        *_result_bars(models, sampled),
    )


def _result_bars(models: Mapping[str, Any], sampled: Sequence[str]) -> tuple[Picture, Picture]:
    greedy = {
        MODELS[name].removesuffix(" rewards"): {"greedy": Interval(**scores["greedy"])}  # six labels in a row
        for name, scores in models.items()
    }
    by_vote = {
        key: {
            MODELS[name]: Interval(**models[name][key]) for name in ("sft", "grpo", PROCESS) if name in models
        }
        for key in sampled
    }
    n, n_sampled = models["sft"]["greedy"]["n"], models["sft"][sampled[0]]["n"]
    return (
        interval_bars(f"Greedy accuracy on {n:,} held-out problems, with 95% intervals", greedy),
        interval_bars(f"{' and '.join(sampled)} on {n_sampled:,} of them, with 95% intervals", by_vote),
    )


def _configured(config: Mapping[str, Any]) -> str:
    evaluation = config["evaluation"]
    return (
        "Held-out problems are disjoint by construction from all that any stage trained on. Greedy takes the "
        f"likeliest token at each place; maj and pass take {evaluation['samples']} samples a problem at "
        f"temperature {evaluation['temperature']}: the most frequent answer is right, and any of them is."
    )


def _gain(results: Mapping[str, Any]) -> tuple[str, ...]:
    gain, models = results["gain"], results["models"]
    gained = gain["elicited"] + gain["new"]
    samples = next(key for key in models["sft"] if key.startswith("pass@")).removeprefix("pass@")
    moved = (
        f"Of the {gain['problems']:,} problems that were also sampled, GRPO's greedy answer is right on "
        f"{gained:,} that SFT's missed, and wrong on {gain['lost']:,} that SFT had right."
    )
    source = (
        f"Elicited: on {gain['elicited']:,} of the {gained:,} gained, one of SFT's {samples} samples was "
        f"right already. New: on {gain['new']:,}, none was."
    )
    return moved, source if gained else "Nothing was gained.", _format_share(models["sft"], models["grpo"])


def _format_share(sft: Mapping[str, Any], grpo: Mapping[str, Any]) -> str:
    """Whether the gain could be one of format: boxed answers, and accuracy among them."""
    text = (
        f"Format: {sft['boxed']['value']:.1%} of SFT's answers end in a box, "
        f"{grpo['boxed']['value']:.1%} of GRPO's"
    )
    if "greedy_boxed" not in sft or "greedy_boxed" not in grpo:
        return text + "."
    before, after = (scores["greedy_boxed"]["value"] for scores in (sft, grpo))
    return text + f"; among those alone, accuracy goes from {before:.1%} to {after:.1%}."


def _by_family(greedy: Mapping[str, Sequence[Answers]]) -> list[Picture | Table]:
    """A table of every model, and one picture per level: families, with a bar for each of base, SFT and GRPO."""
    accuracies = {MODELS[name]: accuracy_by(rows) for name, rows in greedy.items()}
    kinds = {MODELS[name]: accuracies[MODELS[name]] for name in ("base", "sft", "grpo")}
    groups = sorted(kinds["GRPO"])
    rows = tuple(
        (
            f"{family} {level}",
            *(f"{100 * accuracy[family, level].value:.1f}" for accuracy in accuracies.values()),
        )
        for family, level in groups
    )
    return [
        Table(("family, level: % right", *accuracies), rows),
        *_family_bars(kinds, groups),
    ]


def _family_bars(
    kinds: Mapping[str, Mapping[tuple[str, int], Interval]], groups: Sequence[tuple[str, int]]
) -> list[Picture]:
    return [
        interval_bars(
            f"Greedy accuracy at level {level} with 95% intervals, n = "
            + ", ".join(f"{kinds['GRPO'][kind].n} {kind[0]}" for kind in groups if kind[1] == level),
            {
                family: {name: accuracy[family, at] for name, accuracy in kinds.items()}
                for family, at in groups
                if at == level
            },
        )
        for level in sorted({level for _, level in groups})
    ]


# Training


ACCURACY = "rewards/accuracy_reward/mean"  # what the grader gave, under a control too


def _grpo_curves(out: Path) -> list[str | Picture]:
    """Curves of the run and of the controls that were trained with the same loop."""
    names = ("grpo", "random_reward", "shuffled_reward")
    metrics = {
        MODELS[name]: read_metrics(out / name / "metrics.jsonl")
        for name in names
        if (out / name / "metrics.jsonl").exists()
    }

    def overlay(caption: str, column: str, ylabel: str) -> Picture:
        return curves(
            caption, {name: metric_points(rows, column) for name, rows in metrics.items()}, ylabel=ylabel
        )

    flat = {"all the same reward": "frac_reward_zero_std", "of these, not 0": "frac_reward_zero_std_above_0"}
    return [
        overlay("Share of the step's completions, which are sampled, that are right", ACCURACY, "right"),
        overlay("KL from the SFT model (k3 estimate), nats a token", "kl", "KL"),
        overlay("Entropy of the policy, nats a token", "entropy", "entropy"),
        overlay("Mean length of a completion, tokens", "completions/mean_length", "tokens"),
        curves(
            "Groups without a spread of rewards: they teach nothing",
            {name: metric_points(metrics["GRPO"], column) for name, column in flat.items()},
            ylabel="share of groups",
        ),
    ]


def _supervision(out: Path, results: Mapping[str, Any]) -> list[Section]:
    """Labels, reward model and the run that it has rewarded; nothing where there is none."""
    if not (found := results["supervision"]):
        return []
    truth, held_out = found["labels"]["steps"], found["reward_model"]["held_out"]
    counts = found["reward_model"]["examples"]
    parts: list[str | Table | Picture] = [
        (
            "Math-Shepherd: of SFT's solutions each step is completed by SFT continued, and is good where a completion finds the "
            f"right answer. The SFT model then learned to judge steps from {counts['solutions']:,} of these solutions, in "
            f"{found['reward_model']['updates']:,} updates, and GRPO was run anew from SFT with what it says of each step beside "
            f"the 1-0 reward of the answer: its advantages count {found['weight']:g} times."
        ),
        verdict(PROCESS, results["paired"][f"grpo-{PROCESS}"]),
        "\n\n".join(supervised(found)),
    ]
    if truth["truth"]:
        parts.append(Table(LABELS_HEADER, tuple(truth_rows(truth))))
    if held_out:
        parts.append(Table(MEASURES_HEADER, tuple(measure_rows(held_out))))
        bins = [(score, Interval(**share)) for score, share in held_out["calibration"]]
        caption = "Calibration: share of right steps by the reward model's mean score, in ten bins"
        parts.append(calibration_curves(caption, {"held-out steps": bins}))
    rows = read_metrics(out / PROCESS / "metrics.jsonl")
    rewards = {"reward": metric_points(rows, "rewards/process/mean")}
    parts.append(curves("What the reward model gives the policy's steps, mean", rewards, ylabel="reward"))
    return [Section("Process supervision", tuple(parts))]


def _examples(sft: Sequence[Answers], grpo: Sequence[Answers]) -> tuple[str | Table, ...]:
    """The first held-out problems of each kind, with the greedy answers of both models."""
    kinds: dict[str, list[tuple[Answers, Answers]]] = {kind: [] for kind in (*EXAMPLES, "both right")}
    for before, after in zip(sft, grpo, strict=True):
        kinds[_kind(before.correct[0], after.correct[0])].append((before, after))
    rows = tuple(
        (kind, before.question, before.answer, before.responses[0].strip(), after.responses[0].strip())
        for kind, count in EXAMPLES.items()
        for before, after in kinds[kind][:count]
    )
    counts = ", ".join(f"{len(pairs):,} {kind}" for kind, pairs in kinds.items())
    return (
        f"Of {len(sft):,} greedy answers: {counts}. The first of each kind:",
        Table(("GRPO against SFT", "question", "answer", "SFT says", "GRPO says"), rows),
    )


def _kind(before: bool, after: bool) -> str:
    if before == after:
        return "both right" if after else "both wrong"
    return "gained" if after else "lost"


def _losses(out: Path, small: Mapping[str, Any]) -> list[str | Picture]:
    pretrain, sft = (read_metrics(out / stage / "metrics.jsonl") for stage in ("pretrain", "sft"))
    losses = {"SFT": metric_points(sft, "loss")}
    steps = max(row["step"] for row in sft)
    if (longer := out / "sft_longer" / "metrics.jsonl").exists():
        more = metric_points(read_metrics(longer), "loss")
        losses[MODELS["sft_longer"]] = [(steps + step, loss) for step, loss in more]
    checks = {
        "greedy": "check/greedy",
        "greedy, worst family": "check/worst_family",
        "ends in a box": "check/boxed",
    }
    rule = (
        f"SFT stops at {small['sft_stop']:.0%} greedy accuracy, {small['sft_stop_family']:.0%} in every family, with "
        f"{small['sft_stop_boxed']:.0%} of the answers in a box, on {small['sft_checks']:,} problems whose forms are solved nowhere in training. It ran "
        f"{steps:,} of at most {small['sft']['loop']['steps']:,} steps"
        + ("." if read_json(out / "sft" / DONE)["stopped"] else " and did not get there.")
    )
    parts: list[str | Picture] = [
        curves(
            "Pretraining loss, nats a token", {"pretraining": metric_points(pretrain, "loss")}, ylabel="loss"
        ),
        rule,
        curves("SFT loss, nats a token of the answer", losses, ylabel="loss"),
    ]
    measured = {name: metric_points(sft, column) for name, column in checks.items()}
    if len(measured["greedy"]) > 1:  # one point is no curve
        parts.append(curves("What SFT's stop rule measured", measured, ylabel="share"))
    return parts


# Seconds, configuration


def _seconds(seconds: Mapping[str, float]) -> Picture:
    bars = {MODELS.get(stage, stage): seconds[stage] for stage in STAGES if stage in seconds}
    return horizontal_bars(
        f"Seconds per phase, {seconds['total']:,.0f} in all, compilation included", bars, unit="s"
    )


def _configuration(config: Mapping[str, Any]) -> Table:
    small, grpo, mine = config["small"], config["small"]["grpo"], config["mine"]
    model, classifier = small["model"], mine["classifier"]
    rows = {
        "run": f"preset {config['preset']}, random seed {config['rng_seed']}",
        "problems": f"{', '.join(small['families'])}; levels {', '.join(map(str, small['levels']))}",
        "mining": f"{mine['iterations']} iterations, the best {mine['keep_share']:.0%} of the words kept, "
        f"domains above {mine['domain_share']:.0%}; fastText dim {classifier['dim']}, lr {classifier['lr']}, "
        f"{classifier['word_ngrams']}-grams, {classifier['epoch']} epochs",
        "model": f"{param_count(ModelConfig(**model)):,} parameters: {model['n_layers']} layers, "
        f"d {model['d_model']}, {model['n_heads']} heads, ffn {model['d_ff']}, "
        f"vocabulary {model['vocab_size']:,}",
        "pretraining": f"{_training(small['pretrain'])}; drills {small['drill_weight']:.0%}, questions "
        f"{small['question_weight']:.0%}, corpus {small['corpus_weight']:.0%}",
        "SFT": f"{small['sft_problems']:,} worked solutions; at most {_training(small['sft'])}",
        "GRPO": f"{grpo['loop']['steps']:,} updates, each from {grpo['batch_size']} completions, "
        f"{grpo['num_generations']} of a question, of at most {grpo['max_completion_length']} tokens, "
        f"{_learning_rate(grpo)}, beta {grpo['loss']['beta']}, epsilon {grpo['loss']['epsilon']}",
    }
    return Table(("part", "value"), tuple(rows.items()))


def _training(training: Mapping[str, Any]) -> str:
    return (
        f"{training['loop']['steps']:,} steps of {training['batch_size']} x {training['window']} tokens, "
        f"{_learning_rate(training)}"
    )


def _learning_rate(training: Mapping[str, Any]) -> str:
    optimizer = training["optimizer"]
    schedule = optimizer["schedule"].replace("_", "-")
    return f"lr {optimizer['peak_lr']:g} ({schedule}, {optimizer['warmup_steps']} warm-up steps)"
