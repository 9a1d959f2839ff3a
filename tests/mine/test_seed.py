import json
from pathlib import Path

import pytest

from dsm_jax.errors import UserError
from dsm_jax.mine.domains import read_annotations
from dsm_jax.mine.read import check_warcs
from dsm_jax.mine.seed import read_seed


def test_rows_may_hold_raw_line_separators_and_the_file_a_byte_order_mark(tmp_path):
    path = tmp_path / "seed.jsonl"
    text = "prime\u2028ideal\u0085ring"
    path.write_bytes(("\ufeff" + json.dumps({"text": text}, ensure_ascii=False) + "\r\n\n").encode())
    assert read_seed(path).texts == ("prime ideal ring",)
    path.write_text(json.dumps({"prefix": f"a.org/{text}", "accept": True}, ensure_ascii=False) + "\n")
    assert len(read_annotations(path).prefixes) == 1


@pytest.mark.parametrize("read", [read_seed, read_annotations, lambda path: check_warcs([path])])
def test_a_file_without_permission_is_one_line(tmp_path, monkeypatch, read):
    def denied(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", denied)
    with pytest.raises(UserError, match="cannot be read .Permission denied") as caught:
        read(tmp_path / "file")
    assert "\n" not in str(caught.value)
