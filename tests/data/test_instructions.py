"""Each published form of finetuning data reads into the same records; what cannot be used is told, never lost."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from dsm_jax.data.instructions import boxed_gsm8k, read_sft
from dsm_jax.data.sft import Record, Turn
from dsm_jax.errors import UserError

PROGRAM = "import math\nx = math.floor(2.5)\nprint(x)"
TOOL = "```python\nprint(2)\n```\n```output\n2\n```\nIt is $\\boxed{2}$."
# Rows as they are published, and (kind, question, answer) of their records.
FORMS = {
    "gsm8k": (
        {"question": "How many?", "answer": "He has 1+1=<<1+1=2>>2 pens.\nTwice: $<<2*600=1200>>1,200.\n#### 1,200"},
        [("cot", "How many?", "He has 1+1=2 pens.\nTwice: $1,200.\nThe answer is \\boxed{1,200}.")],
    ),
    "math": (
        {"problem": "$1+1$?", "level": "Level 1", "type": "Algebra", "solution": "It is $\\boxed{2}$."},
        [("cot", "$1+1$?", "It is $\\boxed{2}$.")],
    ),
    "math with a short answer": (
        {"problem": "$1+1$?", "solution": "It is $\\boxed{2}$.", "answer": "2"},
        [("cot", "$1+1$?", "It is $\\boxed{2}$.")],
    ),
    "MathInstruct, words": (
        {"source": "data/CoT/aqua_rat.json", "output": "Let it be x.\nAnswer: B", "instruction": "The ratio?"},
        [("cot", "The ratio?", "Let it be x.\nAnswer: B")],
    ),
    "MathInstruct, a program": (
        {"source": "data/PoT/mathqa.json", "output": PROGRAM, "instruction": "Floor? Let's program."},
        [("pot", "Floor? Let's program.", PROGRAM)],
    ),
    "alpaca": (
        {"instruction": "Add.", "input": "1, 1", "output": "2"},
        [("cot", "Add.\n1, 1", "2")],
    ),
    "MetaMath": ({"type": "GSM_Rephrased", "query": "1+1?", "response": "2\n#### 2"}, [("cot", "1+1?", "2\n#### 2")]),
    "ToRA's results": (
        {"idx": 0, "question": "1+1?", "gt": "2", "code": [TOOL, "no", TOOL], "pred": ["2.0", "", "3"], "report": [None]},
        [("tool", "1+1?", TOOL), "no final answer", ("tool", "1+1?", TOOL)],
    ),
    "ToRA's corpus": (
        {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": TOOL}], "gt": "2"},
        [("tool", "1+1?", TOOL)],
    ),
    "Lila, a task's file": (
        {"Categories": [], "Instances": [
            {"Input": "Floor?", "Output Program": [PROGRAM, "print(2)", PROGRAM], "Output Answer": ["2"], "split": "train"},
            {"Input": "Floor?", "Output Program": [PROGRAM], "Output Answer": ["2"], "split": "test"},
            {"Input": "None?", "Output Program": [], "Output Answer": ["2"], "split": "train"},
        ]},
        [("pot", "Floor?", PROGRAM), ("pot", "Floor?", "print(2)"), "split test", "no program"],
    ),
    "Lila, rows": (
        {"input": "Floor?", "output_program": "a = 2\nprint(a)", "output_answer": "2", "split": "train", "dataset": "x"},
        [("pot", "Floor?", "a = 2\nprint(a)")],
    ),
    "ShareGPT": (
        {"id": "a", "conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]},
        [("cot", "1+1?", "2")],
    ),
    "never answered": ({"messages": [{"role": "user", "content": "1+1?"}]}, ["no answer"]),
    "answered before asked": (
        {"messages": [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "a"},
                      {"role": "assistant", "content": "b"}]},
        ["an answer before any question"],
    ),
    "answered twice": (
        {"messages": [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"},
                      {"role": "assistant", "content": "So 2."}]},
        ["an answer behind an answer"],
    ),
    "a split of null": ({"prompt": "1+1?", "completion": "2", "split": None}, [("cot", "1+1?", "2")]),
    "a split in capitals": ({"prompt": "1+1?", "completion": "2", "split": "TRAIN"}, [("cot", "1+1?", "2")]),
    "fences in an output": (
        {"question": "1+1?", "code": [TOOL.replace("\n2\n```\n", "\n```\n2\n```\n"), TOOL]},
        ["tool output among other fences", ("tool", "1+1?", TOOL)],
    ),
    "empty": ({"prompt": " ", "completion": "2"}, ["no question"]),
    "null": ({"prompt": "1+1?", "completion": None}, ["no answer"]),
    "open": ({"prompt": "1+1?", "completion": "```output\n2"}, ["tool output never closed"]),
}  # fmt: skip


def read(*paths, **options):
    """(kind, question, answer) of each record, and the counted reasons."""
    skipped: Counter[str] = Counter()
    records = list(read_sft(paths, skipped=skipped, **options))
    return [(record.kind, record.turns[0].text, record.turns[1].text) for record in records], skipped


def refused(*paths, **options):
    with pytest.raises(UserError) as error:
        list(read_sft(paths, **options))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", FORMS)
def test_forms(tmp_path, name):
    row, expected = FORMS[name]
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    found, skipped = read(tmp_path / "a.jsonl")
    assert found == [one for one in expected if isinstance(one, tuple)]
    assert skipped == Counter(one for one in expected if isinstance(one, str))


def test_files_of_every_kind_hold_the_same(tmp_path):
    rows = [{"instruction": f"q{i}", "output": f"a{i}\u2028\n第"} for i in range(5)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    files = {
        "a.jsonl": lines,
        "a.json": lines,
        "list.json": json.dumps(rows).encode(),
        "indented.json": json.dumps(rows, indent=2).encode(),
        "bom.jsonl": b"\xef\xbb\xbf" + lines,
        "a.jsonl.gz": gzip.compress(lines),
        "a.jsonl.zst": zstandard.compress(lines),
        "a.json.gz": gzip.compress(json.dumps(rows).encode()),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        assert read(tmp_path / name)[0] == [("cot", f"q{i}", f"a{i}\u2028\n第") for i in range(5)], name
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert len(read(tmp_path / "a.parquet")[0]) == 5


def test_a_folder_with_a_file_for_each_problem(tmp_path):
    for i in (0, 2, 10, 1):
        (tmp_path / "algebra").mkdir(exist_ok=True)
        row = {"problem": f"p{i}", "level": "Level 5", "type": "Algebra", "solution": "\\boxed{1}"}
        (tmp_path / "algebra" / f"{i}.json").write_text(json.dumps(row, indent=4))
    (tmp_path / "more.jsonl").write_text('{"prompt": "q", "completion": "a"}\n')
    assert [question for _, question, _ in read(tmp_path)[0]] == ["p0", "p1", "p2", "p10", "q"]
    (tmp_path / "algebra" / "2.json").write_text('{"problem": "p2"}')
    assert "algebra/2.json:1: no question and answer in this row (it has problem)" in refused(tmp_path)


def test_mistakes_are_named_by_file_and_line(tmp_path):
    good, file = '{"prompt": "q", "completion": "a"}', tmp_path / "a.jsonl"
    for line, said in (
        ('{"prompt": "q"', "a.jsonl:3: not a row of JSON"),
        ("[1]", "a.jsonl:3: a row must be an object, not [1]"),
        ('{"prompt": "q"}', "a.jsonl:3: no question and answer in this row (it has prompt)"),
        ('{"prompt": 1, "completion": "a"}', "a.jsonl:3: its prompt is 1; it must be text"),
        ('{"messages": {}}', "a.jsonl:3: its messages must be a list of objects"),
        (
            '{"messages": [{"role": "tool", "content": "2"}]}',
            "a.jsonl:3: a message's role is 'tool'; it must be one of",
        ),
        ('{"messages": [{"role": ["x"], "content": "2"}]}', "a.jsonl:3: a message's role is ['x']"),
        ('{"input": "q", "output_program": [1]}', "a.jsonl:3: its input must be text, its output program"),
        ('{"question": "q", "code": "a"}', "a.jsonl:3: code must be a list of transcripts"),
    ):
        file.write_text(f"{good}\n\n{line}\n{good}\n")
        assert said in refused(file)
    file.write_text('{"question": "q", "code": ["a"], "gt": "1"}\n')
    assert "a.jsonl:1: no pred for each transcript" in refused(file, only_correct=True)
    (tmp_path / "b.json").write_text(f"[{good},\n{good}\n{good}]")
    assert "b.json:3: not a row of JSON" in refused(tmp_path / "b.json")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(f"{good}\n".encode() * 999)[:-20])
    assert "c.jsonl.gz:" in refused(tmp_path / "c.jsonl.gz") and "damaged" in refused(tmp_path / "c.jsonl.gz")
    assert "none: no such file" in refused(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "empty: no file of a kind that can be read" in refused(tmp_path / "empty")
    (tmp_path / "a.txt").write_text("a")
    assert "a.txt: not of a kind" in refused(tmp_path / "a.txt")


def test_gsm8k_keeps_all_but_its_marks():
    assert boxed_gsm8k("a <b> << c\n#### 7") == "a <b> << c\nThe answer is \\boxed{7}."
    assert boxed_gsm8k("1<<1=1>>\n\n#### -3 ") == "1\nThe answer is \\boxed{-3}."


def test_conversations_keep_their_turns(tmp_path):
    messages = [
        ("system", "s"),
        ("user", "a"),
        ("assistant", "b"),
        ("user", " c "),
        ("assistant", "d"),
        ("user", "e"),
    ]
    row = {"messages": [{"role": role, "content": content} for role, content in messages]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    turns = tuple(Turn(role, content.strip()) for role, content in messages[:-1])
    assert list(read_sft([tmp_path / "a.jsonl"])) == [Record("chat", turns)]


def test_no_prediction_is_no_correct_one(tmp_path):
    rows = [{"question": "q", "code": ["\\boxed{1}"], "pred": [pred], "gt": gt} for pred, gt in
            ((None, None), ("", ""), ("None", None), ("1", "1"))]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found, skipped = read(tmp_path / "a.jsonl", only_correct=True)
    assert len(found) == 1 and skipped == {"wrong answer": 3}


def test_tora_transcripts(dsm_data):
    file = dsm_data / "labelled_outputs/gsm8k_tora-70b-v1.0_tool_integrated.jsonl.gz"
    found, skipped = read(file)
    assert Counter(kind for kind, _, _ in found) == {"tool": 1_308} and skipped == {"no final answer": 11}
    found, skipped = read(file, only_correct=True)
    assert Counter(kind for kind, _, _ in found) == {"tool": 1_103}
    assert skipped == {"wrong answer": 207, "no final answer": 9}
