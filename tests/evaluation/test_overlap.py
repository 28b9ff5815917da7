"""Evaluation texts that stand in the training shards are found and placed; others are not."""

import json
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from scratchlm.base.errors import DataError
from scratchlm.base.files import sha256_of
from scratchlm.data.shards import open_shards
from scratchlm.evaluation import overlap
from scratchlm.evaluation.overlap import (
    Passage,
    find_training_text,
    training_overlap,
    training_overlaps,
)
from scratchlm.model.config import ModelConfig
from scratchlm.recipes.prepare import PrepareConfig, prepare
from scratchlm.recipes.pretrain import pretrain
from scratchlm.recipes.run_config import RunConfig, TextConfig
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.train import train_tokenizer
from scratchlm.training.trainer import TrainConfig

WORDS = re.findall(
    r"\w+",
    "harbour canal seaweed visitor lagoon kitchen stone patience council bridge winter tomato rain "
    "merchant neighbour soil river morning letter window garden silver thunder candle orchard",
)
HAN = "清晨老街没有醒来卖豆浆夫妇已经生好炉火热气从木桶里升起与河面薄雾混在一起阳台种植番茄"


KINDS = {"bpe": 300, "char": 9, "whitespace": 99, "sentencepiece-unigram": 330}  # with their sizes


def english(seed: int, n: int = 40) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=n))


def chinese(seed: int, n: int = 60) -> str:
    return "".join(random.Random(seed).choices(HAN, k=n))


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return [english(i) for i in range(150)] + [chinese(i) for i in range(150)]


def make_run(folder: Path, documents: list[str], kind: str = "bpe", init: Path | None = None):
    """A run's folder as far as overlaps are concerned."""
    folder.mkdir(parents=True)
    text = folder / "text.jsonl"
    text.write_text("\n".join(json.dumps({"text": one}) for one in documents), "utf-8")
    tokenizer = train_tokenizer(
        [english(i) for i in range(99)] + [HAN] * 9, TokenizerConfig(kind, KINDS[kind], 1)
    )
    prepare(
        text, folder / "data", tokenizer, config=PrepareConfig(val_fraction=0.0, shard_tokens=3000)
    )
    facts = {
        "data": {str(folder / "data"): sha256_of(folder / "data" / "manifest.json")},
        "init": str(init) if init else None,
    }
    (folder / "run.json").write_text(json.dumps(facts), "utf-8")
    (folder / "model").mkdir()
    (folder / "checkpoints" / "step-00000002").mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, documents) -> Path:
    return make_run(tmp_path_factory.mktemp("overlap") / "run", documents)


def exam(documents: list[str]) -> list[str]:
    """Items: a fresh one, a quotation in other capitals, one word short of a run, and so on."""
    words = documents[7].split()
    quoted = f"Who said it? {', '.join(words[3:16]).upper()}! {english(901, 5)}"
    too_few = f"Who said it? {' '.join(words[3:15])} {english(902, 20)}"
    return [
        english(900),
        quoted,
        too_few,
        chinese(900),
        f"下面哪一项正确？{documents[170][5:25]}，{chinese(901, 9)}",
        f"下面哪一项正确？{documents[170][5:24]}。{chinese(902, 30)}",
        documents[299],
    ]


def test_a_run_of_13_words_or_20_characters_is_found_and_less_is_not(run, documents):
    found = training_overlap(exam(documents), run)
    assert found.found == {1, 4, 6}
    assert (found.n_items, found.n_found, found.run_lengths) == (7, 3, (13, 20))
    assert found.shares[6] == 1.0
    assert 0 < found.shares[1] < 0.5
    assert found.searched == ((run / "data").as_posix(),)
    assert found.not_searched == ()
    assert found.n_documents == 3


def test_the_matching_words_and_their_place_are_shown(run, documents):
    found = training_overlap(exam(documents), run)
    by_item = {one.item: one for one in found.examples}
    assert set(by_item) == {1, 4, 6}
    assert by_item[1].text == " ".join(documents[7].split()[3:16])
    assert by_item[4].text == documents[170][5:25]
    assert by_item[6].text == documents[299]
    assert [len(one.text) for one in found.examples] == sorted(
        (len(one.text) for one in found.examples), reverse=True
    )
    for one in found.examples:
        path, number = one.place.split(", document ")
        split = open_shards(run / "data")
        shard = next(shard for shard in split.shards if shard.path.as_posix() == path)
        ends = [0, *shard.document_ends.tolist()]
        ids = shard.tokens[ends[int(number) - 1] : ends[int(number)]]
        tokenizer = overlap.Tokenizer.load(run / "data")
        assert one.text in tokenizer.decode(ids.tolist())
    assert len(open_shards(run / "data").shards) > 1


@pytest.mark.parametrize("kind", ["char", "whitespace", "sentencepiece-unigram"])
def test_every_kind_of_tokenizer(tmp_path, documents, kind):
    run = make_run(tmp_path / "run", documents, kind)
    items = exam(documents)
    found = training_overlap(items[:3] if kind == "whitespace" else items, run)
    assert found.found == ({1} if kind == "whitespace" else {1, 4, 6})


def test_each_set_has_its_own_runs_and_the_text_is_read_once(run, documents, monkeypatch):
    opened = []
    plain = overlap.open_shards
    monkeypatch.setattr(
        overlap, "open_shards", lambda *a, **more: opened.append(a) or plain(*a, **more)
    )
    short = [" ".join(documents[20].split()[i : i + 8]) for i in (0, 5, 9)] + ["two words"]
    found = training_overlaps({"short": [*short, *short], "long": exam(documents)}, run)
    assert len(opened) == 1
    assert found["long"] == training_overlap(exam(documents), run)
    assert found["short"].run_lengths == (8,)
    assert found["short"].found == {0, 1, 2, 4, 5, 6}
    assert found["short"].n_too_short == 2
    assert training_overlaps({"none": []}, run)["none"].n_found == 0


def test_small_documents_together_are_as_each_alone(run, documents, monkeypatch):
    together = training_overlap(exam(documents), run)
    monkeypatch.setattr(overlap, "_BLOCK", 1)
    assert training_overlap(exam(documents), run) == together
    half = documents[7].split()
    cut = [Passage("a", " ".join(half[:8])), Passage("b", " ".join(half[8:20]))]
    monkeypatch.setattr(overlap, "_BLOCK", 1 << 17)
    item = " ".join(half[:20])
    assert training_overlap([item], run / "nowhere", cut).found == frozenset()  # no run crosses
    assert training_overlap([item], run / "nowhere", [Passage("c", item)]).found == {0}


def test_long_documents_come_in_slices_that_overlap(tmp_path, monkeypatch):
    text = english(5, 3000)
    run = make_run(tmp_path / "run", [text])
    words = text.split()
    items = [" ".join(words[i : i + 13]) for i in range(0, len(words) - 13, 7)]
    for size, lap, all_found in ((128, 90, True), (128, 0, False)):
        monkeypatch.setattr(overlap, "_SLICE", size)
        monkeypatch.setattr(overlap, "_LAP", lap)
        assert (training_overlap(items, run).n_found == len(items)) == all_found


def test_the_newest_examples_do_not_fill_the_memory(run, documents):
    found = training_overlap(documents, run)
    assert found.n_found == len(documents)
    assert set(found.shares.values()) == {1.0}
    assert len(found.examples) == overlap.EXAMPLES


@pytest.mark.parametrize("part", [".", "model", "checkpoints/step-00000002"])
def test_a_run_its_model_and_its_checkpoints_lead_to_the_shards(run, part):
    training = find_training_text(run / part)
    assert [path.resolve() for path in training.shards] == [run / "data"]
    assert training.missing == ()


def test_a_run_that_was_moved_has_its_shards_with_it(run, tmp_path, documents):
    shutil.copytree(run, tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere"
    facts = json.loads((moved / "run.json").read_text("utf-8"))
    facts["data"] = {"runs/first/data": next(iter(facts["data"].values()))}
    (moved / "run.json").write_text(json.dumps(facts), "utf-8")
    assert find_training_text(moved).shards == (moved / "data",)
    assert training_overlap(exam(documents), moved).found == {1, 4, 6}


def test_what_a_model_began_from_counts_too(run, tmp_path, documents):
    tuned = make_run(tmp_path / "tuned", [english(i) for i in range(500, 560)], init=run / "model")
    found = training_overlap([*exam(documents), english(510)], tuned)
    assert found.found == {1, 4, 6, 7}
    assert len(found.searched) == 2
    foreign = make_run(tmp_path / "foreign", documents, init=tmp_path / "hub")
    found = training_overlap(exam(documents), foreign)
    assert found.found == {1, 4, 6}
    assert "hub is not in the folder of a run" in found.not_searched[0]


def test_examples_of_a_fine_tuning_are_searched_where_they_are_given(run, tmp_path, documents):
    facts = {"method": "sft", "base": str(run / "model"), "data": {"chats.json": "0" * 64}}
    (tmp_path / "run.json").write_text(json.dumps(facts), "utf-8")
    items = [*exam(documents), english(950)]
    found = training_overlap(items, tmp_path)
    assert found.found == {1, 4, 6}
    assert found.not_searched == ("chats.json, examples of a fine-tuning",)
    learned = [Passage("chats.json:7", english(950))]
    found = training_overlap(items, tmp_path, learned)
    assert found.found == {1, 4, 6, 7}
    assert found.not_searched == ()
    assert found.searched == ((run / "data").as_posix(), "chats.json")
    assert {one.item: one.place for one in found.examples}[7] == "chats.json:7"


def test_where_nothing_can_be_searched_nothing_is_said_of_the_items(run, tmp_path, documents):
    found = training_overlap(exam(documents), tmp_path)
    assert (found.found, found.n_found, found.shares) == (None, None, None)
    assert f"{tmp_path} is not in the folder of a run of scratchlm" in found.not_searched[0]
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    (copied / "data" / "manifest.json").write_text("{}", "utf-8")
    shutil.rmtree(run.parent / "gone", ignore_errors=True)
    facts = json.loads((copied / "run.json").read_text("utf-8"))
    (copied / "run.json").write_text(json.dumps(facts | {"data": {"gone/data": "0" * 64}}), "utf-8")
    found = training_overlap(exam(documents), copied / "model")
    assert found.found is None
    assert "gone/data, which" in found.not_searched[0]
    assert "is gone, moved or not the same" in found.not_searched[0]
    other = {"data": {str(run / "data"): "0" * 64}}  # made anew since, by its checksum
    (copied / "run.json").write_text(json.dumps(other), "utf-8")
    found = training_overlap(exam(documents), copied)
    assert found.found is None
    assert f"{run / 'data'}, which {copied} has read, is gone" in found.not_searched[0]
    (copied / "run.json").write_text("[]", "utf-8")
    with pytest.raises(DataError, match=r"run\.json does not name the run's data"):
        training_overlap(exam(documents), copied)


def test_a_run_that_was_really_trained(tmp_path, documents):
    (tmp_path / "text").mkdir()
    for i, text in enumerate(documents):
        (tmp_path / "text" / f"{i}.txt").write_text(text, "utf-8")
    config = RunConfig(
        text=TextConfig((str(tmp_path / "text"),)),
        tokenizer=TokenizerConfig(kind="bpe", vocab_size=400),
        prepare=PrepareConfig(val_fraction=0.1, split="document"),
        model=ModelConfig(n_layers=1, d_model=16, n_heads=2, max_seq_len=256),
        train=TrainConfig(steps=1, micro_batch=1, precision="float32"),
    )
    result = pretrain(config, tmp_path / "run", device="cpu")
    found = training_overlap(documents, result.model)
    n_val = open_shards(tmp_path / "run" / "data", "val").n_documents
    assert n_val > 0
    assert found.n_found == len(documents) - n_val  # what validated was not learned


def test_the_quick_decoding_is_the_plain_one(run, documents):
    tokenizer = overlap.Tokenizer.load(run / "data")
    decode = overlap._decoder(tokenizer)
    for text in documents[::40]:
        ids = [*tokenizer.encode(text), tokenizer.eos_id]
        assert decode(np.array(ids)) == tokenizer.decode(ids, skip_special=True)
