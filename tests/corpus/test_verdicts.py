"""Verdicts outlive the process that found them."""

import json

from scratchlm.corpus.records import Failure
from scratchlm.corpus.verdicts import Verdicts, digest, write_verdicts


def failure(name: str, body: bytes, reason: str = "time limit") -> Failure:
    return Failure(name, "here", reason, digest=digest(body))


def test_a_verdict_is_about_one_document(tmp_path):
    Verdicts(tmp_path / "v" / "0", tmp_path / "older").add(failure("é", b"body"))
    known = Verdicts(tmp_path / "v" / "0", tmp_path / "older")
    assert known.of("é", b"body") == "time limit"
    assert known.of("é", b"another body") is None
    assert known.of("e", b"body") is None


def test_a_line_that_is_cut_is_forgotten_and_spoils_no_other(tmp_path):
    path = tmp_path / "0"
    verdicts = Verdicts(path, tmp_path / "older")
    for name in "ab":
        verdicts.add(failure(name, b"x"))
    path.write_bytes(path.read_bytes()[:-5])
    verdicts.add(failure("c", b"x", "crashed"))
    known = Verdicts(path, tmp_path / "older")
    assert [known.of(name, b"x") for name in "abc"] == ["time limit", None, "crashed"]


def test_verdicts_of_an_earlier_run(tmp_path):
    failed = tmp_path / "failed.jsonl"
    with_digest = {"id": "a", "source": "x", "reason": "memory limit", "digest": digest(b"x")}
    lines = [with_digest, {"id": "b", "source": "x", "reason": "empty"}]
    failed.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    write_verdicts(tmp_path / "v" / "older", [failed])
    known = Verdicts(tmp_path / "v" / "0", tmp_path / "v" / "older")
    assert known.of("a", b"x") == "memory limit"
    assert known.of("b", b"x") is None
