"""What fine-tuning will see: what is learned against the records themselves, and each check
failing once."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scratchlm.base.config import write_toml
from scratchlm.base.errors import CheckpointError, DataError
from scratchlm.checkpoint.folder import save_model
from scratchlm.data.rows import IGNORE
from scratchlm.examples.encode import Example
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.recipes import preview_checks as checks
from scratchlm.recipes.finetune import finetune, prepare_lesson
from scratchlm.recipes.finetune_config import (
    ClassifyConfig,
    DistillConfig,
    DpoConfig,
    FinetuneConfig,
    SftConfig,
)
from scratchlm.recipes.preview import preview
from scratchlm.recipes.preview_facts import Check, Part, Preview
from scratchlm.recipes.preview_finetune import ExampleRows
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.train import train_tokenizer
from scratchlm.training.trainer import TrainConfig

ASKED = [
    "What is the sea?",
    "春眠不觉晓的下一句是什么？",
    "Name <|im_end|> a ship.",
    "二加二等于几？",
]
ANSWERS = ["Salt water, and much of it.", "处处闻啼鸟。", "The ship <|im_start|> Nina.", "四。"]
RECORDS = [
    {"instruction": f"{asked} ({n})", "output": f"{answer} {n}"}
    for n in range(6)
    for asked, answer in zip(ASKED, ANSWERS)
]
END = "<|im_end|>"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A model that was never trained, with a tokenizer of English and Chinese, context 96."""
    texts = [" ".join(record.values()) for record in RECORDS] * 3
    tokenizer = train_tokenizer(texts, TokenizerConfig(vocab_size=300))
    model = Transformer(ModelConfig("llama", tokenizer.vocab_size, 96, 1, 16, 2))
    model.initialise()
    folder = tmp_path_factory.mktemp("models") / "base"
    save_model(folder, model, tokenizer)
    return folder


@pytest.fixture
def records(tmp_path):
    def write(found, name="data.jsonl") -> Path:
        lines = (json.dumps(one, ensure_ascii=False) + "\n" for one in found)
        (tmp_path / name).write_text("".join(lines), encoding="utf-8")
        return tmp_path / name

    return write


@pytest.fixture
def shown(tmp_path):
    """Preview a config, as a file."""

    def show(config: FinetuneConfig, **options) -> Preview:
        write_toml(tmp_path / "tune.toml", config)
        return preview(tmp_path / "tune.toml", **{"rows": 100, **options})

    return show


def parts_of(made: Preview) -> list[Part]:
    return [part for row in made.rows for part in row.parts if part.name != "padding"]


def text_of(part: Part, *, learned: bool | None = None) -> str:
    """Control tokens in brackets, so that text which spells them is told apart."""
    pieces = [one for one in part.pieces if learned in (None, one.learned)]
    return "".join(f"[{one.text}]" if one.special else one.text for one in pieces)


def line_of(part: Part) -> int:
    return int(part.place.rpartition(":")[2]) - 1


def check_of(made: Preview | list[Check], name: str) -> Check:
    (found,) = [x for x in getattr(made, "checks", made) if x.name == name]
    return found


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_answers_are_learned_with_their_end(base, records, shown, packed, split):
    config = SftConfig(base, (records(RECORDS),), packed=packed, validation=0.3)
    made = shown(config, split=split)
    parts = parts_of(made)
    assert len(parts) == made.shown.examples == config.train.micro_batch or split == "val"
    for part in parts:
        record = RECORDS[line_of(part)]
        assert text_of(part, learned=True) == f"{record['output']}[{END}]"
        assert text_of(part).startswith(f"[<|im_start|>]user\\n{record['instruction']}[{END}]")
        assert part.n_learned == sum(len(one.ids) for one in part.pieces if one.learned)
    assert made.ok
    assert len(made.rows) == (made.shown.rows if packed else len(parts))
    positions = made.shown.tokens + made.shown.padding
    assert positions % made.shown.rows == 0
    assert check_of(made, checks.SAME_EXAMPLES).ok is None


def test_every_turn_of_a_conversation_is_learned(base, records, shown):
    turns = [("user", "a?"), ("assistant", "b!"), ("user", "c?"), ("assistant", "d!")]
    talk = {"messages": [{"role": role, "content": text} for role, text in turns]}
    made = shown(SftConfig(base, (records([talk]),), validation=0.0))
    (part, *_) = parts_of(made)
    assert text_of(part, learned=True) == f"b![{END}]d![{END}]"
    assert check_of(made, checks.END).detail.startswith("2 of 2 answers")


def test_both_answers_of_a_pair_are_named(base, records, shown):
    pairs = [{"prompt": f"p{n}?", "chosen": f"好 {n}", "rejected": f"bad {n}"} for n in range(8)]
    made = shown(DpoConfig(base, (records(pairs),), validation=0.2))
    parts = parts_of(made)
    assert [part.name for part in parts] == ["chosen", "rejected"] * made.shown.examples
    for part in parts:
        pair = pairs[line_of(part)]
        assert text_of(part, learned=True) == f"{pair[part.name]}[{END}]"
        assert f"{pair['prompt']}[{END}]" in text_of(part, learned=False)
    assert made.ok
    assert made.shown.longest == max(
        one.n_tokens + other.n_tokens for one, other in zip(parts[::2], parts[1::2])
    )


def test_the_label_stands_behind_the_text(base, tmp_path, shown):
    path = tmp_path / "labels.tsv"
    lines = [f"{'spam' if n % 2 else 'ham'}\tmessage 号 {n}" for n in range(30)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = ClassifyConfig(base, (path,))
    made = shown(config)
    for part in parts_of(made):
        label, text = lines[line_of(part)].split("\t")
        assert (part.label, text_of(part), part.n_learned) == (label, text, 1)
        assert not any(piece.learned for piece in part.pieces)
    assert made.ok
    assert check_of(made, checks.CLASS).detail == f"one of 2 in each of {made.stock.examples} texts"
    assert made.shown.learned == made.shown.examples == config.train.micro_batch


def test_texts_of_distillation_are_learned_as_a_whole(base, tmp_path, shown):
    text = "The ship sailed at dawn. " * 40
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    config = DistillConfig(base, (tmp_path / "text.txt",), teacher=base, validation=0.0)
    made = shown(config)
    learned = sum(part.n_tokens - part.n_learned for part in parts_of(made))
    assert learned == 0
    assert made.ok
    assert check_of(made, checks.END).detail == "it closes each of 1 text"


@pytest.mark.parametrize(("long", "n_left"), [("drop", 24), ("cut", 24)])
def test_what_is_too_long_is_named(base, records, shown, long, n_left):
    big = {"instruction": "long " * 100, "output": "no"}
    path = records([*RECORDS, big])
    made = shown(SftConfig(base, (path,), validation=0.0, long=long))
    assert made.stock.examples == n_left  # cut, it has nothing left to learn
    assert made.stock.long == (f"{path}:25",)
    assert made.stock.on_long == long
    assert made.stock.empty == ((f"{path}:25",) if long == "cut" else ())
    found = check_of(made, checks.NOTHING_CUT)
    assert found.ok
    assert f"1 longer than 96 tokens and {'cut' if long == 'cut' else 'left out'}" in found.detail
    assert any("1 examples are longer than 96" in note for note in made.notes)


def test_bad_records_that_are_left_out_are_noted(base, records, shown):
    path = records([*RECORDS, {"instruction": "?", "output": ""}])
    with pytest.raises(DataError, match=r"data\.jsonl:25"):
        shown(SftConfig(base, (path,)))
    made = shown(SftConfig(base, (path,), skip_bad=True))
    assert any("1 bad records left out" in note and f"{path}:25" in note for note in made.notes)


def test_a_run_and_its_examples(base, records, tmp_path):
    path = records(RECORDS)
    train = TrainConfig(steps=2, micro_batch=4, precision="float32", eval_every=1, save_every=0)
    config = SftConfig(base, (path,), epochs=0, train=train)
    finetune(config, tmp_path / "run", device="cpu")
    made = preview(tmp_path / "run", rows=100)
    assert made.ok
    assert check_of(made, checks.SAME_EXAMPLES).ok
    assert check_of(made, checks.SAME_TOKENIZER).ok
    assert preview(tmp_path / "run" / "config.toml", rows=100).rows == made.rows
    records([{**RECORDS[0], "output": "else"}, *RECORDS[1:]])
    changed = preview(tmp_path / "run")
    assert not changed.ok
    assert "have changed since the run began" in check_of(changed, checks.SAME_EXAMPLES).detail


def test_a_base_or_data_that_are_gone(base, records, shown, tmp_path):
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        shown(SftConfig(tmp_path / "nowhere", (records(RECORDS),)))
    with pytest.raises(DataError, match=r"gone\.jsonl"):
        shown(SftConfig(base, (tmp_path / "gone.jsonl",)))
    with pytest.raises(DataError, match="nothing is held out"):
        shown(SftConfig(base, (records(RECORDS),), validation=0.0), split="val")


@pytest.fixture
def source(base, records):
    """Rows of a lesson with one example changed; what is found in its first batch."""

    def look(change, config: FinetuneConfig | None = None, lay=lambda rows: rows) -> list[Check]:
        chosen = config or SftConfig(base, (records(RECORDS),), packed=False, validation=0.0)
        chosen, lesson = prepare_lesson(chosen)
        first = change(lesson.train[0])
        rows = ExampleRows(chosen, replace(lesson, train=[first, *lesson.train[1:]]), "train", {})
        found = rows.findings()
        for n in range(3):
            found.add(n, lay(rows.rows(n)))
        return rows.checks(found)

    return look


def changed(example: Example, **arrays: np.ndarray) -> Example:
    return replace(example, **arrays)


def test_an_answer_without_its_end_is_seen(source):
    def endless(one: Example) -> Example:
        learned = np.flatnonzero(one.targets != IGNORE)
        targets = one.targets.copy()
        targets[learned[-1]] = IGNORE
        return changed(one, targets=targets)

    found = check_of(source(endless), checks.END)
    assert found.ok is False
    assert "data.jsonl:1" in found.detail


def test_an_example_without_targets_is_seen(source):
    masked = check_of(
        source(lambda one: changed(one, targets=np.full_like(one.targets, IGNORE))), checks.TARGETS
    )
    assert masked.ok is False
    assert "data.jsonl:1" in masked.detail


def test_an_id_of_nobody_is_seen(source):
    found = check_of(source(lambda one: changed(one, tokens=one.tokens + 400)), checks.IDS)
    assert found.ok is False
    assert "there are 302, and other ids in" in found.detail


def test_a_target_that_is_not_next_is_seen(source):
    def shifted(one: Example) -> Example:
        targets = one.targets.copy()
        targets[np.flatnonzero(targets != IGNORE)[0]] += 1
        return changed(one, targets=targets)

    found = check_of(source(shifted), checks.NEXT)
    assert found.ok is False
    assert "data.jsonl:1" in found.detail


def test_a_class_that_is_none_is_seen(source, base, tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_text("".join(f"{'ab'[n % 2]}\ttext {n}\n" for n in range(20)), encoding="utf-8")
    config = ClassifyConfig(base, (path,), validation=0.0, test=0.0, packed=False)

    def strange(one: Example) -> Example:
        return changed(one, targets=np.where(one.targets == IGNORE, IGNORE, 2))

    found = check_of(source(strange, config), checks.CLASS)
    assert found.ok is False
    assert "labels.tsv:1" in found.detail


def test_a_row_that_lost_tokens_is_seen(source):
    def cut(rows):
        first = rows[0][0]
        return [[replace(first, tokens=first.tokens[1:], targets=first.targets[1:], place="")]]

    found = check_of(source(lambda one: one, lay=cut), checks.NOTHING_CUT)
    assert found.ok is False
    assert "no whole example: row 1 of batch 0" in found.detail


def test_an_example_that_is_missing_is_seen(source):
    found = check_of(source(lambda one: one, lay=lambda rows: rows[:-1]), checks.NOTHING_CUT)
    assert found.ok is False
    assert found.detail == "21 examples are in batches of 24"


def test_padding_with_a_loss_is_seen(source):
    def leak(rows):
        *text, padding = next(row for row in rows if row[-1].padding)
        return [[*text, replace(padding, targets=np.zeros_like(padding.targets))]]

    found = check_of(source(lambda one: one, lay=leak), checks.PADDING)
    assert found.ok is False


def test_a_batch_cut_by_the_loader_is_seen(base, records, monkeypatch):
    """The rows are held against the examples, not against themselves."""
    config, lesson = prepare_lesson(
        SftConfig(base, (records(RECORDS),), packed=False, validation=0.0)
    )
    rows = ExampleRows(config, lesson, "train", {})
    whole = rows._loader.batch

    def short(n):
        batch = whole(n)
        return replace(
            batch,
            tokens=batch.tokens[:, 2:],
            targets=batch.targets[:, 2:],
            segments=batch.segments[:, 2:],
        )

    monkeypatch.setattr(rows._loader, "batch", short)
    found = rows.findings()
    found.add(0, rows.rows(0))
    assert check_of(rows.checks(found), checks.NOTHING_CUT).ok is False
