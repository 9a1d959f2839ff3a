"""Text made to crash, hang, or be run: any of it gets a verdict, soon, and nothing happens."""

import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsm_jax.evaluate.grader import answer_key, cluster, grade, is_boxed

PIECES = [
    *"{}()[]|^_+-*/<>=,;:!'%°&.0123459xynei \n\t\0\ud800İﷺ",
    "\\frac", "\\sqrt", "\\sqrt[3]", "\\boxed{", "\\boxed ", "\\text{", "\\text{ and }", "\\left(", "\\right)", "\\{", "\\}", "\\\\",
    "\\pi", "\\infty", "\\pm", "\\cup", "\\setminus", "\\in", "\\le", "\\approx", "\\log_2", "\\sin", "\\tan^{-1}", "\\binom",
    "\\sum_{k=1}^{1000}", "\\prod_{k=1}^{999}", "\\int_0^1", "dx", "\\lim_{x\\to0}", "\\begin{pmatrix}", "\\end{pmatrix}", "\\overline{6}",
    "\\dot{3}", "\\choose", "\\over", "\\mathbb{R}", "\\ldots", "...", "$", "$$", "\\$", "\\(", "\\)", "9^{9^9}", "10^{10^{10}}", "!!", "1000!",
    "1e9", "1e-999999999", "0x1F", "0.333333", "f(", "|x|", "and", "or", "the answer is", "Answer:", "####", "答案是", "选", "二分之一", "百", "万",
    "，", "３", "٣", "²", "½", "√", "A", "(B)", "C.", "cm^2", "\\text{km/h}", "million", "dozen", "three", "half",
]  # fmt: skip
HOSTILE = st.lists(st.sampled_from(PIECES), max_size=25).map("".join)
MODES = st.sampled_from(["strict", "flexible", "deepseek"])
CODE = (
    "__import__('os').system('touch {canary}')", "exec(\"open('{canary}','w')\")", "open('{canary}','w').write('x')",
    "[c for c in ().__class__.__base__.__subclasses__()]", "1+__import__('pathlib').Path('{canary}').touch()", "lambda: open('{canary}','w')",
    "\\input{{{canary}}}", "\\write18{{touch {canary}}}", "os._exit(0)", "f'{{open(\"{canary}\",\"w\")}}'", "x=__import__('os').mkdir('{canary}')",
)  # fmt: skip


def _check(response, gold, mode):
    start = time.perf_counter()
    verdict = grade(response, gold, mode=mode)
    assert verdict.correct in (True, False, None)
    assert verdict.correct is not True or verdict.extracted is not None
    assert time.perf_counter() - start < 10  # a worker may have to start
    assert is_boxed(response) in (True, False)


@settings(max_examples=400)
@given(HOSTILE, HOSTILE, MODES, st.booleans())
def test_any_text_gets_a_verdict(response, gold, mode, boxed):
    _check(f"\\boxed{{{response}}}" if boxed else response, gold, mode)


@pytest.mark.slow
@settings(max_examples=10_000, suppress_health_check=list(HealthCheck))
@given(HOSTILE, HOSTILE, MODES, st.booleans())
def test_ten_thousand_texts_get_a_verdict(response, gold, mode, boxed):
    _check(f"\\boxed{{{response}}}" if boxed else response, gold, mode)


@settings(max_examples=100)
@given(st.lists(HOSTILE | st.none(), max_size=6))
def test_any_answers_are_clustered(answers):
    found = cluster(answers)
    assert [number is None for number in found] == [answer is None for answer in answers]
    numbers = [number for number in found if number is not None]
    assert all(number <= max([-1, *numbers[:place]]) + 1 for place, number in enumerate(numbers))
    assert all(isinstance(answer_key(answer), str) for answer in answers if answer is not None)


@pytest.mark.parametrize("mode", ["strict", "flexible", "deepseek"])
def test_code_in_an_answer_is_not_run(tmp_path, monkeypatch, mode):
    monkeypatch.chdir(tmp_path)
    for code in CODE:
        text = code.format(canary="canary")
        for response in (
            text,
            f"\\boxed{{{text}}}",
            f"\\boxed{{\\int_0^1 {text} dx}}",
            f"\\boxed{{({text}, 3)}}",
        ):
            assert grade(response, "3", mode=mode).correct is not True or mode != "strict"
            grade("\\boxed{3}", text, mode=mode)
    assert not os.listdir(tmp_path)


BOMBS = [
    "9^{9^{9^9}}", "2^{2^{2^{2^{2^{2}}}}}", "(((((10^9)!)!)!)!)!", "\\tan(10^{10^{9}})", "1e-999999999", "10^{-10^{10}}", "7^{7^{7^7}} \\mod 10",
    "\\sum_{n=1}^{10^{12}} n^{3}", "\\prod_{k=1}^{10^{7}} k", "\\sum_{k=1}^{1000}\\sum_{n=1}^{1000}\\sum_{m=1}^{1000} kmn",
    "\\prod_{k=1}^{100}\\prod_{j=1}^{100}(x+jk)", "\\sum_{k=1}^{1000} k!", "((2^{100})^{100})^{100}", "((x+1)^{50})^{50}", "3000!", "1000!^{1000}",
    "+".join(f"\\frac{{1}}{{{p}^{{2000}}}}" for p in range(3, 60, 2)), ",".join(f"\\sqrt{{{p}}}" for p in range(2, 90)),
    ",".join(["\\pm\\sqrt{2}"] * 70), "(" * 490 + "1" + ")" * 490, "((" * 100, "\\sqrt" * 190, "1/" * 450 + "1", "-" * 900, "|" * 900,
    "x^" * 400 + "x", "\\frac" * 180, "\\text{" * 150, "\\begin{pmatrix}" * 60, "1<" * 400 + "1", "4" + "!" * 900, "1:" * 400 + "1",
    "\\cup".join(["(0,1)"] * 140), "\\cup".join(f"({i},{i + 1})" for i in range(100)), "9" * 990, "\\int_0^{10^8} \\sin(x^{60}) dx",
    "\\sum_{n=1}^{\\infty} \\frac{\\sin n}{n^3+\\ln n}", "\\int \\int \\int e^{x^2} dx dx dx", "\\lim_{x\\to\\infty} \\frac{x^{x}}{x!}",
]  # fmt: skip


@pytest.mark.parametrize("mode", ["strict", "deepseek"])
@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_bombs_are_wrong_and_cost_little(bomb, mode):
    grade("\\boxed{\\int_0^1 x dx}", "7")  # the first worker starts
    start = time.perf_counter()
    assert grade(f"\\boxed{{{bomb}}}", "3", mode=mode).correct is False
    assert grade("\\boxed{3}", bomb, mode=mode).correct is not True
    assert time.perf_counter() - start < 20  # of which a busy machine needs most to start workers anew
