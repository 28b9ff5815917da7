"""`corpus extract`: from the words of a command line to a folder of documents."""

from scratchlm.cli.corpus_extract import Extract
from scratchlm.corpus.executors import Scale
from scratchlm.corpus.extract import ExtractConfig
from scratchlm.corpus.store import read_stored


def test_words_become_options(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("review,stars\nfine,5\n很好,4\n", encoding="utf-8")
    out = tmp_path / "docs"
    words = [str(tmp_path / "a.csv"), "--out", str(out), "--text-key", "review", "--mode", "quick"]
    words += ["--workers", "1", "--limit", "7", "--time-limit", "2.5", "--max-mb", "4"]
    command = Extract.from_words("corpus extract", words)
    assert command.scale == Scale(1)
    assert command.config == ExtractConfig(
        mode="quick", text_key="review", limit=7, time_limit=2.5, max_mb=4
    )
    command.run()
    assert capsys.readouterr().out == f"{out}\n"
    assert [one.text for one in read_stored(out / "00000.jsonl.zst")] == ["fine", "很好"]
