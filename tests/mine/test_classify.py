from random import Random

import numpy as np
import pytest

from dsm_jax.errors import UserError
from dsm_jax.mine import classify
from dsm_jax.mine.classify import FastTextConfig, count_words, fasttext_tokens

SMALL = FastTextConfig(dim=8, lr=0.5, epoch=10, bucket=1000, min_count=1)
MATH = [f"prime theorem ring {'ideal ' * (i % 3)}field" for i in range(20)]
OTHER = [f"coach season ticket {'hotel ' * (i % 3)}phone" for i in range(20)]


def test_tex_commands_and_words_are_separate_tokens():
    assert fasttext_tokens(r"Let $x^2\frac{Ab}{3}$ be_2 \Gamma.") == r"let x \frac ab be \gamma"


def test_tokens_are_one_line_and_cjk_is_one_character_each():
    assert fasttext_tokens("质数是\n2, Prime") == "质 数 是 prime"


def test_words_count_cjk_characters():
    assert count_words("two words") == 2
    assert count_words("质数 is 2") == 4


def test_training_with_one_thread_gives_the_same_bytes(tmp_path):
    models = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        accuracy = classify.train(MATH, OTHER, tmp_path / name, SMALL, Random(3))
        models.append((tmp_path / name / "classifier.bin").read_bytes())
        assert accuracy == 1.0
    assert models[0] == models[1]


def test_scores_are_floats_of_a_list_and_do_not_depend_on_the_batch(tmp_path):
    classify.train(MATH, OTHER, tmp_path, SMALL, Random(3))
    model = classify.load(tmp_path)
    texts = [*MATH, *OTHER, ""] * 20
    scores = list(classify.score(model, iter(texts)))
    assert scores == [classify.predict(model, [text])[0] for text in texts]
    assert all(type(score) is float for score in scores) and int(np.__version__.split(".")[0]) >= 2
    assert min(scores[:20]) > 0.5 > max(scores[20:40]) and scores[40] == 0.0


@pytest.mark.parametrize(("positives", "negatives"), [([], OTHER), (MATH, []), (["", ""], OTHER)])
def test_one_class_is_the_users_mistake(tmp_path, positives, negatives):
    with pytest.raises(UserError, match="no (seed|negative) page"):
        classify.train(positives, negatives, tmp_path, SMALL, Random(0))


@pytest.mark.parametrize("name", ["dim", "word_ngrams", "min_count", "epoch", "bucket", "thread", "lr"])
@pytest.mark.parametrize("value", [0, -1, 2**31, float("nan")])
def test_options_that_fasttext_dies_of_are_refused(name, value):
    if name == "lr" and value > 0:
        return
    with pytest.raises(UserError, match=f"--mine.classifier.{name.replace('_', '-')} "):
        FastTextConfig(**{name: value})


def test_paper_preset():
    config = FastTextConfig()
    assert (config.dim, config.lr, config.word_ngrams, config.min_count, config.epoch) == (256, 0.1, 3, 3, 3)
