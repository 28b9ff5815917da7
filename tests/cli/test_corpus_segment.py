"""`corpus segment`: from the words of a command line to files."""

import pytest

from scratchlm.cli.corpus_segment import Segment
from scratchlm.corpus.executors import Scale


def test_words_become_options(tmp_path, capsys):
    pytest.importorskip("rjieba")
    (tmp_path / "a.txt").write_text("\u5317\u4eac\u5927\u5b66", encoding="utf-8")
    words = [str(tmp_path / "a.txt"), "--with", "rjieba", "--out", str(tmp_path / "out")]
    command = Segment.from_words("corpus segment", [*words, "--workers", "1", "--limit", "3"])
    assert command.scale == Scale(1)
    assert command.config.limit == 3
    command.run()
    assert capsys.readouterr().out == f"{tmp_path / 'out'}\n"
    written = (tmp_path / "out" / "00000.tokenized.txt").read_text("utf-8")
    assert written == "\u5317\u4eac\u5927\u5b66\n\n"


def test_a_segmenter_is_asked_for(capsys):
    with pytest.raises(SystemExit):
        Segment.from_words("corpus segment", ["a.txt", "--out", "x"])
    assert "--with" in capsys.readouterr().err
