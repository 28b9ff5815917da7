"""The chat template of a folder: its file, or where older folders have it."""

import pytest

from scratchlm.base.errors import CheckpointError
from scratchlm.tokenizer.chat_file import read_template


def test_templates_are_found_in_folders(tmp_path):
    assert read_template(tmp_path) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text('{"chat_template": [{"name": "tools", "template": "t"}, '
                      '{"name": "default", "template": "d"}]}')  # fmt: skip
    assert read_template(tmp_path) == "d"
    config.write_text('{"chat_template": "c"}')
    assert read_template(tmp_path) == "c"
    (tmp_path / "chat_template.jinja").write_text("j")
    assert read_template(tmp_path) == "j"


def test_files_that_are_no_templates(tmp_path):
    path = tmp_path / "chat_template.jinja"
    path.write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match="not UTF-8 at byte 0"):
        read_template(tmp_path)
    path.write_text("x" * (1 << 20) + "x")
    with pytest.raises(CheckpointError, match="it is no chat template"):
        read_template(tmp_path)
