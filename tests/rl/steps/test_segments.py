"""Where steps end: each way of splitting on written texts, and what holds of every text."""

import gzip
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm_jax.rl.steps.segments import step_ends, steps_of

SPLITTINGS = ("lines", "numbered", "sentences")
BLOCK = "```python\n# Step 7: A. B\n\nprint(1)\n```\n```output\n1. One\n```"
CODE = f"First we compute.\n{BLOCK}\nSo it is 1. Yes."
PIECES = st.sampled_from(
    [
        "Step 1:",
        "Step 2:",
        " Step 3: ",
        "步骤1：",
        "第2步：",
        "\n",
        "\r\n",
        " ",
        "\u3000",
        "```",
        "```python",
        "```output",
        "A",
        "b.",
    ]
    + [
        "3.5",
        ". ",
        "。",
        "！",
        "”",
        "Mr. ",
        "1. ",
        "x",
        "é",
        "😀",
        "\x1c",
        "\x85",
        "\u2028",
        "**",
        "\\[",
        "$",
    ]
)
TEXTS = st.lists(PIECES).map("".join) | st.text()


def steps(text, splitting):
    return steps_of(text, step_ends(text, splitting))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a\nb\n\n  \nc\n", ["a", "b", "c"]),
        (" a \r\n b\r\n\r\nc", ["a", "b", "c"]),
        ("2.5. Then\n小明有3个。答案是3。", ["2.5. Then", "小明有3个。答案是3。"]),
        ("", []),
        (" \n\u3000\n\t", []),
        (CODE, ["First we compute.", BLOCK, "So it is 1. Yes."]),
        ("```python\nx\n\ny", ["```python\nx\n\ny"]),
        ("```x``` is\ncode", ["```x``` is", "code"]),
        ("a\n```\nx\n\n```  \r\n```output\n1\n```\nb", ["a", "```\nx\n\n```  \r\n```output\n1\n```", "b"]),
    ],
)
def test_lines(text, expected):
    assert steps(text, "lines") == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        (" Step 1: a. \nStep 2: b.\nThe answer is: 3", ["Step 1: a.", "Step 2: b.\nThe answer is: 3"]),
        ("Step 1: a. Step 2: b. Step 3: c", ["Step 1: a.", "Step 2: b.", "Step 3: c"]),
        (
            "Step 1: a.\nStep 2: by Step 1: b, Step 3. And Step 2: c",
            ["Step 1: a.", "Step 2: by Step 1: b, Step 3. And Step 2: c"],
        ),
        ("Let us see.\n\nStep 1: a\n\nb\nStep 2: c", ["Let us see.\n\nStep 1: a\n\nb", "Step 2: c"]),
        ("Step 1: a Step 3: b", ["Step 1: a Step 3: b"]),
        ("Step 1: a\nStep 1: b\nStep 5. c", ["Step 1: a", "Step 1: b", "Step 5. c"]),
        ("**Step 1:** a\n### Step 2: b\n> Step 3: c", ["**Step 1:** a", "### Step 2: b", "> Step 3: c"]),
        ("步骤1：三加五。步骤 2: 八。", ["步骤1：三加五。", "步骤 2: 八。"]),
        ("第1步：三加五。\r\n第2步：八。", ["第1步：三加五。", "第2步：八。"]),
        ("Footstep 1: a\nFootstep 2: b", ["Footstep 1: a\nFootstep 2: b"]),
        ("no number\nat all", ["no number\nat all"]),
        (f"Step 1: {CODE}\nStep 2: b", [f"Step 1: {CODE}", "Step 2: b"]),
        (f"Step {'9' * 5000}: a", [f"Step {'9' * 5000}: a"]),
        ("", []),
    ],
)
def test_numbered(text, expected):
    assert steps(text, "numbered") == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("It is 3.5 m. The rest is 2 m. so 1. 5 more.", ["It is 3.5 m.", "The rest is 2 m. so 1. 5 more."]),
        ("A. B.  C.\tD.E.\nf", ["A.", "B.", "C.", "D.E.", "f"]),
        (
            "Mr. Lee and Dr. Wu of St. Ives met. Mrs. Li left.",
            ["Mr. Lee and Dr. Wu of St. Ives met.", "Mrs. Li left."],
        ),
        ("1. Add. Then\n12. Divide by 2. Done", ["1. Add.", "Then", "12. Divide by 2.", "Done"]),
        (
            "小明有3.5元。他说：“好。”买了吗？！买了！（一共8个。）对",
            ["小明有3.5元。", "他说：“好。”", "买了吗？！", "买了！", "（一共8个。）", "对"],
        ),
        (CODE, ["First we compute.", BLOCK, "So it is 1.", "Yes."]),
        ("", []),
    ],
)
def test_sentences(text, expected):
    assert steps(text, "sentences") == expected


@given(
    st.lists(st.sampled_from(["Then", "A", "x=3.5", ".", " ", "is", "\n", "$y$", "\\]", "7"])).map("".join)
)
def test_sentences_are_cut_where_the_released_references_are(text):
    """Their rule as it stands, then lines; titles and numbers of lists are none of these texts."""
    text = re.sub(r"(?m)^\d+\.", "", text)
    text = re.sub(" +", " ", text)
    released = "\n".join(re.split(r"(?<=\.) (?=[A-Z])", text))
    assert steps(text, "sentences") == [line.strip() for line in released.split("\n") if line.strip()]


@given(TEXTS, st.sampled_from(SPLITTINGS))
def test_what_holds_of_every_text(text, splitting):
    ends = step_ends(text, splitting)
    assert bool(ends) == bool(text.strip())
    for start, end in zip((0, *ends), ends, strict=False):
        assert text[start:end].strip() and not text[end - 1].isspace()
    assert not text[ends[-1] if ends else 0 :].strip()
    for j, end in enumerate(ends, start=1):
        assert step_ends(text[:end], splitting) == ends[:j]


@given(st.lists(st.text(st.characters(exclude_characters="`\n", exclude_categories=["Cs"]))))
def test_lines_are_the_lines(lines):
    assert steps("\n".join(lines), "lines") == [line.strip() for line in lines if line.strip()]


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"])).filter(
            lambda text: "Step" not in text and "步" not in text and "`" not in text
        ),
        min_size=1,
    )
)
def test_numbers_give_the_steps_back(bodies):
    """On a line each, as in Math-Shepherd's data, and all on one line."""
    own = [f"Step {k}: {' '.join(body.split())}".rstrip() for k, body in enumerate(bodies, start=1)]
    assert steps(" " + "\n".join(own), "numbered") == own
    assert steps(" " + " ".join(own), "numbered") == own


def test_math_shepherds_own_rows(dsm_data):
    rows = [
        json.loads(line) for line in (dsm_data / "prm" / "samples_math-shepherd.jsonl").open(encoding="utf-8")
    ]
    assert len(rows) == 7
    for row in rows:
        _, number, marked = row["input"].partition(" Step 1:")
        pieces = (number + marked).split(" ки")
        assert pieces.pop() == ""
        assert steps("".join(pieces), "numbered") == [piece.strip() for piece in pieces]


def test_gsm8ks_solutions(dsm_data):
    """A step is a line, and a sentence is never longer than that."""
    with gzip.open(dsm_data / "gsm8k" / "test.jsonl.gz", "rt", encoding="utf-8") as lines:
        answers = [json.loads(line)["answer"] for line in lines]
    assert len(answers) == 1319
    for answer in answers:
        assert steps(answer, "lines") == [line.strip() for line in answer.split("\n") if line.strip()]
        assert set(step_ends(answer, "lines")) <= set(step_ends(answer, "sentences"))
