import errno
import resource
import time
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mine.loop import classify
from dsm_jax.mine.loop.classify import FastTextConfig, epochs_for
from dsm_jax.mine.tokens import count_words, fasttext_tokens

SMALL = FastTextConfig(dim=8, lr=0.5, epoch=10, bucket=1000, min_count=1)
MATH = [f"prime theorem ring {'ideal ' * (i % 3)}field" for i in range(20)]
OTHER = [f"coach season ticket {'hotel ' * (i % 3)}phone" for i in range(20)]


def train(folder, positives=MATH, negatives=OTHER, config=SMALL):
    """The model, trained on these texts in a shuffled file."""
    lines = [f"{classify.MATH} {text}\n" for text in positives] + [
        f"{classify.OTHER} {text}\n" for text in negatives
    ]
    Random(3).shuffle(lines)
    (folder / "train.txt").write_text("".join(lines))
    classify.train(folder / "train.txt", folder / "classifier.bin", config)
    return classify.load(folder / "classifier.bin")


def test_tex_commands_and_words_are_separate_tokens():
    assert fasttext_tokens(r"Let x^2\frac{Ab}{3} be_2 \Gamma.") == r"let x \frac ab be \gamma"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("let $n$ be", r"let \formula n be"),
        (r"$\alpha$, $x+\beta$", r"\formula \alpha \formula x \beta"),
        ("so $$a\n= b$$ and", r"so \formula a b and"),
        (r"so \(a_1\) and \[\{b\}\]", r"so \formula a and \formula \{b".replace("\\{", "")),
        ("it costs $5 or $6 now", "it costs or now"),
        ("from $5-$10 each", "from each"),
        ("a $20 bill, $n$ times", r"a bill \formula n times"),
        ('echo "$name" and $other', "echo name and other"),
        (r"sed 's/\(a/b/' and \(x\)", r"sed s a b and \formula x"),
        ("$$ never closed", "never closed"),
    ],
)
def test_a_formula_has_a_token_before_it_and_a_price_has_none(text, tokens):
    assert fasttext_tokens(text) == tokens


@pytest.mark.parametrize("piece", ["$a ", "\\(", "\\(\\", "\\[ x", "$$a", "$", "\\", "$\n", "\\(a\\]"])
def test_hostile_texts_take_linear_time(piece):
    started = time.process_time()
    fasttext_tokens(piece * 200_000)
    assert time.process_time() - started < 5


def test_tokens_are_one_line_and_cjk_is_one_character_each():
    assert fasttext_tokens("质数是\n2, Prime") == "质 数 是 prime"


def test_words_count_cjk_characters():
    assert count_words("two words") == 2
    assert count_words("质数 is 2") == 4


def test_training_with_one_thread_gives_the_same_bytes(tmp_path):
    models = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        model = train(tmp_path / name)
        models.append((tmp_path / name / "classifier.bin").read_bytes())
        assert classify.accuracy(model, tmp_path / name / "train.txt") == 1.0
    assert models[0] == models[1]


def test_scores_are_floats_of_a_list_and_do_not_depend_on_the_batch(tmp_path):
    model = train(tmp_path)
    texts = [*MATH, *OTHER, ""] * 20
    scores = classify.predict(model, texts)
    assert scores == [classify.predict(model, [text])[0] for text in texts]
    assert all(type(score) is float for score in scores) and int(np.__version__.split(".")[0]) >= 2
    assert min(scores[:20]) > 0.5 > max(scores[20:40]) and scores[40] == 0.0


class Saturated:
    """Returns what fastText does for texts that are their own P(other): both probabilities, 1e-5 added, float32."""

    def predict(self, texts, k):
        p_other = np.array([float(text) for text in texts])
        both = np.exp(np.log(np.stack([1 - p_other, p_other], axis=1) + 1e-5).astype(np.float32))
        return [["__label__math", "__label__other"]] * len(texts), list(both)


def test_pages_near_one_are_told_apart():
    p_other = [10 ** (-k / 20) for k in range(7, 121)]  # from 0.45 down to 1e-6
    scores = classify.predict(Saturated(), [repr(p) for p in p_other])
    assert all(a < b < 1 for a, b in pairwise(scores))
    assert all(
        1 - score == pytest.approx(p, rel=1e-3, abs=1e-7) for score, p in zip(scores, p_other, strict=True)
    )
    _, bare = Saturated().predict([repr(p) for p in p_other], k=2)
    assert len({float(p[0]) for p in bare}) < 160 and max(float(p[0]) for p in bare) > 1


def test_scores_are_what_fasttext_says_to_its_digits(tmp_path):
    model = train(tmp_path)
    texts = [*MATH, *OTHER, "prime coach", "theorem theorem hotel", "guitar"]
    labels, probabilities = model.predict(texts, k=2)
    expected = [p[names.index("__label__math")] for names, p in zip(labels, probabilities, strict=True)]
    assert classify.predict(model, texts) == pytest.approx(expected, abs=1.2e-5)


def test_a_text_without_a_token_that_the_model_can_use_scores_zero(tmp_path):
    config = FastTextConfig(dim=4, word_ngrams=1)  # min_count 3 leaves out the end of line, seen twice
    model = train(tmp_path, ["ring ring ring"], ["coach coach coach"], config)
    assert classify.predict(model, ["hotel", ""]) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("documents", "epochs"), [(1, 25), (300, 25), (400, 19), (1000, 8), (2500, 3), (1_000_000, 3)]
)
def test_few_texts_take_more_epochs_and_the_papers_million_takes_three(documents, epochs):
    assert epochs_for(documents, FastTextConfig()) == epochs


def test_more_epochs_than_the_rule_gives_are_the_users_to_choose():
    assert epochs_for(10, FastTextConfig(epoch=100)) == 100
    assert epochs_for(10, FastTextConfig(epoch=5, texts_seen=1)) == 5


@pytest.mark.parametrize(
    "name", ["dim", "word_ngrams", "min_count", "epoch", "texts_seen", "bucket", "thread", "lr"]
)
@pytest.mark.parametrize("value", [0, -1, 2**31, float("nan")])
def test_options_that_fasttext_dies_of_are_refused(name, value):
    if name == "lr" and value > 0:
        return
    with pytest.raises(UserError, match=f"--classifier.{name.replace('_', '-')} "):
        FastTextConfig(**{name: value})


def test_paper_preset():
    config = FastTextConfig()
    assert (config.dim, config.lr, config.word_ngrams, config.min_count, config.epoch) == (256, 0.1, 3, 3, 3)


def test_a_model_that_the_disk_has_no_room_for_is_not_taken_for_one(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match="no space left") as caught:
            train(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.ENOSPC and caught.value.filename
    assert [path.name for path in tmp_path.iterdir()] == ["train.txt"]
