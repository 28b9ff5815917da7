"""What pretraining will see: rows against the text itself, and each check failing once."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scratchlm.base.config import write_toml
from scratchlm.base.errors import ConfigError, DataError
from scratchlm.base.files import write_manifest
from scratchlm.data.loader import DataConfig, Loader, SourceConfig, open_splits
from scratchlm.data.rows import IGNORE
from scratchlm.data.shards import FORMAT, VERSION, ShardWriter
from scratchlm.model.config import ModelConfig
from scratchlm.recipes import preview_checks as checks
from scratchlm.recipes.prepare import PrepareConfig, prepare
from scratchlm.recipes.pretrain import pretrain
from scratchlm.recipes.preview import preview
from scratchlm.recipes.preview_facts import Part, Preview, ShownRow
from scratchlm.recipes.run_config import RunConfig, TextConfig
from scratchlm.recipes.sample_tokenizer import SAMPLE_BYTES
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer
from scratchlm.training.trainer import TrainConfig

TEXTS = [
    *(f"The ship {n} sailed at dawn. Nobody saw it sail. " * (1 + n % 4) for n in range(30)),
    *(f"春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少？{n}。" for n in range(10)),
]
T = 24


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, TokenizerConfig(kind="bpe", vocab_size=300))


@pytest.fixture(scope="module")
def documents(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.jsonl"
    lines = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in TEXTS)
    path.write_text("".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shards(tmp_path_factory, documents, tokenizer) -> Path:
    out = tmp_path_factory.mktemp("shards") / "data"
    prepare(documents, out, tokenizer, config=PrepareConfig(split="document", val_fraction=0.2))
    return out


def settings(*, data: DataConfig, **more) -> RunConfig:
    return RunConfig(
        **more,
        data=data,
        model=ModelConfig("llama", 0, T, 1, 32, 2),
        train=TrainConfig(steps=2, micro_batch=4, precision="float32", eval_every=1, save_every=1),
    )


@pytest.fixture
def config(tmp_path, shards):
    """Write a config on these shards, or on others, with rows of a kind; the file."""

    def write(kind="packed", folder=shards, **more):
        data = DataConfig((SourceConfig(folder),), seq_len=T, rows=kind, **more)
        write_toml(tmp_path / "run.toml", settings(data=data))
        return tmp_path / "run.toml"

    return write


def ids_of(row: ShownRow) -> list[int]:
    return [i for part in row.parts for piece in part.pieces for i in piece.ids]


def own_ids(part: Part) -> list[int]:
    """Those that the model reads: the last target may stand behind them."""
    return [i for piece in part.pieces for i in piece.ids][: part.n_tokens]


def text_of(row: ShownRow, *, learned: bool | None = None) -> str:
    pieces = [piece for part in row.parts for piece in part.pieces]
    return "".join(one.text for one in pieces if learned in (None, one.learned))


def check_of(made: Preview, name: str):
    (found,) = [one for one in made.checks if one.name == name]
    return found


@pytest.mark.parametrize("kind", ["window", "packed", "padded"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_rows_are_the_trainers(config, shards, kind, split):
    data = DataConfig((SourceConfig(shards),), seq_len=T, rows=kind)
    batch = Loader(open_splits(data, split), data, 4, train=split == "train").batch(1)
    made = preview(config(kind), rows=9, batch=1, split=split)
    assert len(made.rows) == made.shown.rows == len(batch.tokens)
    for row, tokens, targets in zip(made.rows, batch.tokens, batch.targets):
        asked = [i for part in row.parts for one in part.pieces if one.learned for i in one.ids]
        assert asked == targets[targets != IGNORE].tolist()
        n_text = sum(part.n_tokens for part in row.parts if part.name != "padding")
        behind = int(targets[n_text - 1] != IGNORE)  # the last target is shown too
        shown = [i for part in row.parts if part.pieces for i in own_ids(part)]
        assert shown == tokens[:n_text].tolist()
        assert len(ids_of(row)) == n_text + behind
    assert made.ok, [one for one in made.checks if one.ok is False]


def test_padded_rows_are_documents_with_their_end(config):
    whole = {text + "<|endoftext|>" for text in TEXTS}
    made = preview(config("padded", shuffle=False), rows=100, batch=0)
    shown = [text_of(row) for row in made.rows]
    assert any(text in whole for text in shown)
    assert all(any(text in other for other in whole) for text in shown)
    padding = sum(part.n_tokens for row in made.rows for part in row.parts if not part.pieces)
    assert padding == made.shown.padding == sum(T - (len(ids_of(row)) - 1) for row in made.rows)


def test_packed_rows_have_borders_at_documents(config):
    made = preview(config("packed", jitter=False, shuffle=False), rows=100)
    texts = ["".join(one.text for one in part.pieces) for row in made.rows for part in row.parts]
    assert any(text.startswith(texts[0].removesuffix("<|endoftext|>")) for text in TEXTS)
    assert sum(text.endswith("<|endoftext|>") for text in texts) >= 2
    assert all("<|endoftext|>" not in text[:-13] for text in texts)  # never in the middle
    ends = [one for row in made.rows for part in row.parts for one in part.pieces if one.special]
    assert all(one.learned for one in ends)


def test_facts_count_the_batch(config, shards, tokenizer):
    made = preview(config("packed"), rows=2)
    assert len(made.rows) == 2
    shown = made.shown
    assert (shown.rows, shown.tokens + shown.padding) == (4, 4 * T)
    assert made.n_looked == made.n_batches
    manifest = json.loads((shards / "manifest.json").read_text("utf-8"))
    assert made.stock.tokens == manifest["splits"]["train"]["n_tokens"]
    assert made.looked_at.tokens <= made.stock.tokens
    assert made.vocabulary.sha256 == tokenizer.hash == made.vocabulary.shards[0]
    assert made.vocabulary.n_ids == 300
    longest = max(len(tokenizer.encode(text)) + 1 for text in TEXTS)
    assert made.stock.longest == longest
    assert json.loads(json.dumps(made.to_dict()))["shown"]["rows"] == 4


def test_a_text_is_looked_at_in_a_sample(tmp_path, documents):
    told = settings(
        data=DataConfig(seq_len=T),
        text=TextConfig((str(documents),)),
        tokenizer=TokenizerConfig(vocab_size=280),
    )
    write_toml(tmp_path / "text.toml", told)
    made = preview(tmp_path / "text.toml", rows=1)
    assert made.ok
    assert "not prepared yet: all" in made.notes[0]
    assert made.vocabulary.n_ids == 280
    assert text_of(made.rows[0]) in "<|endoftext|>".join(TEXTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.toml"]


def test_a_long_text_is_looked_at_in_part(tmp_path):
    path = tmp_path / "long.txt"
    line = "A line of forty-two letters, or about so.\n"
    path.write_text(line * (SAMPLE_BYTES // len(line) + 9000), encoding="utf-8")
    told = settings(
        data=DataConfig(seq_len=T),
        text=TextConfig((str(path),)),
        tokenizer=TokenizerConfig(kind="char"),
    )
    write_toml(tmp_path / "text.toml", told)
    made = preview(tmp_path / "text.toml", rows=1)
    assert made.ok
    assert "the first 2.0 MB" in made.notes[0]
    assert made.stock.tokens < SAMPLE_BYTES
    assert text_of(made.rows[0]).replace("\\n", "\n") in line * 2


def test_a_run_during_and_after_training(tmp_path, documents):
    told = settings(
        data=DataConfig(seq_len=T, rows="packed"),
        text=TextConfig((str(documents),)),
        tokenizer=TokenizerConfig(vocab_size=280),
    )
    pretrain(told, tmp_path / "run", device="cpu")
    made = preview(tmp_path / "run", batch=1)
    assert made.ok
    assert made.notes == ()
    assert check_of(made, checks.SAME_TOKENIZER).detail.startswith("run.json, ")
    assert preview(tmp_path / "run" / "config.toml", batch=1).rows == made.rows
    (tmp_path / "run" / "model" / "tokenizer.json").unlink()  # as before the end of a run
    assert preview(tmp_path / "run", batch=1).rows == made.rows
    for path in (tmp_path / "run" / "data").rglob("manifest.json"):
        path.unlink()
    with pytest.raises(DataError, match="run/data is gone"):
        preview(tmp_path / "run")


def forged(folder: Path, tokenizer: Tokenizer, texts: list[list[int]], vocab_size: int = 0) -> Path:
    """Shards as no `prepare` would write them."""
    size = vocab_size or tokenizer.vocab_size
    with ShardWriter(folder / "train", size, tokenizer.hash) as writer:
        for ids in texts:
            writer.add(ids)
            writer.end_document()
    tokenizer.save(folder)
    counts = {"n_tokens": writer.n_tokens, "n_documents": writer.n_documents}
    write_manifest(folder, FORMAT, VERSION, vocab_size=size, splits={"train": counts})
    return folder


def encoded(tokenizer: Tokenizer, *, eos: bool = True) -> list[list[int]]:
    return [tokenizer.encode(text, eos=eos) for text in TEXTS]


def test_forged_shards_are_as_good_as_prepared_ones(tmp_path, config, tokenizer):
    made = preview(config(folder=forged(tmp_path / "data", tokenizer, encoded(tokenizer))))
    assert made.ok


def test_documents_without_an_end_are_seen(tmp_path, config, tokenizer):
    folder = forged(tmp_path / "data", tokenizer, encoded(tokenizer, eos=False))
    found = check_of(preview(config(folder=folder)), checks.END)
    assert found.ok is False
    assert f"document 0 of {folder / 'train'}" in found.detail


def test_ids_of_nobody_are_seen_and_shown(tmp_path, config, tokenizer):
    folder = forged(tmp_path / "data", tokenizer, [[307] * 50, *encoded(tokenizer)], 310)
    made = preview(config("window", folder=folder, jitter=False, shuffle=False), rows=1)
    assert check_of(made, checks.IDS).ok is False
    assert "307" in check_of(made, checks.IDS).detail
    assert "[id 307]" in text_of(made.rows[0])


def test_a_model_with_fewer_ids_is_seen(tmp_path, shards):
    data = DataConfig((SourceConfig(shards),), seq_len=T)
    told = replace(settings(data=data), model=ModelConfig("llama", 290, T, 1, 32, 2))
    write_toml(tmp_path / "small.toml", told)
    found = check_of(preview(tmp_path / "small.toml"), checks.IDS)
    assert "model.vocab_size = 290 is below the tokenizer's 300" in found.detail


def test_a_type_that_is_too_narrow_is_seen(tmp_path, config, tokenizer, monkeypatch):
    monkeypatch.setattr("scratchlm.data.shards.dtype_for", lambda _: "uint16")
    folder = forged(tmp_path / "data", tokenizer, encoded(tokenizer), 70_000)
    found = check_of(preview(config(folder=folder)), checks.TYPE)
    assert found.ok is False
    assert "stores 70,000 ids as uint16" in found.detail


def test_shards_of_another_tokenizer_are_seen(tmp_path, config, tokenizer):
    folder = forged(tmp_path / "data", tokenizer, encoded(tokenizer))
    train_tokenizer(TEXTS[20:], TokenizerConfig(vocab_size=280)).save(folder)
    made = preview(config(folder=folder))
    found = check_of(made, checks.SAME_TOKENIZER)
    assert found.ok is False
    assert not made.ok
    assert tokenizer.hash[:12] in found.detail
    assert made.vocabulary.shards[0] == tokenizer.hash != made.vocabulary.sha256


def test_text_that_got_lost_is_seen(tmp_path, config, tokenizer):
    folder = forged(tmp_path / "data", tokenizer, encoded(tokenizer))
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["splits"]["train"]["n_documents"] += 3
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    found = check_of(preview(config(folder=folder)), checks.NOTHING_CUT)
    assert found.ok is False
    assert "wrote 43 documents" in found.detail


def test_what_an_epoch_leaves_out_is_told(config):
    window = preview(config("window", jitter=False, shuffle=False))
    found = check_of(window, checks.NOTHING_CUT)
    unread = int(re.search(r"does not read (\d+) of", found.detail)[1])
    n_rows = window.n_batches * 4 + int(re.search(r"(\d+) of \d+ rows", found.detail)[1])
    assert n_rows * T + 1 + unread == window.stock.tokens
    assert "nor does another" in found.detail
    packed = check_of(preview(config("packed")), checks.NOTHING_CUT)
    assert "does not read" not in packed.detail
    assert "longer than a row go on in the next" in packed.detail


def test_characters_have_no_end_token(tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    tokenizer = train_tokenizer(["\n".join(TEXTS)], TokenizerConfig(kind="char"))
    prepare(tmp_path / "text.txt", tmp_path / "data", tokenizer)
    write_toml(
        tmp_path / "run.toml",
        settings(data=DataConfig((SourceConfig(tmp_path / "data"),), seq_len=T)),
    )
    made = preview(tmp_path / "run.toml")
    assert made.ok
    assert check_of(made, checks.END).ok is None
    assert tokenizer.eos_id is None


def test_bad_input_is_one_clear_error(tmp_path, config, shards, model_folder):
    (tmp_path / "empty").mkdir()
    for place, said in [
        (tmp_path / "nowhere", "does not exist"),
        (tmp_path / "empty", "is no run: it has no config.toml"),
        (shards, "holds prepared text, and no run"),
        (model_folder, "is a model: name the run"),
    ]:
        with pytest.raises(ConfigError, match=said):
            preview(place)
    with pytest.raises(DataError, match=r"gone, of data\.sources, does not exist"):
        preview(config(folder=tmp_path / "gone"))
    with pytest.raises(ConfigError, match=r"batch = 999: .* makes \d+ batches, 0 to \d+"):
        preview(config(), batch=999, split="val")
    with pytest.raises(ConfigError, match="rows = -1 must not be negative"):
        preview(config(), rows=-1)
    told = settings(data=DataConfig(seq_len=T), text=TextConfig((str(tmp_path / "no.txt"),)))
    write_toml(tmp_path / "text.toml", told)
    with pytest.raises(DataError, match=r"no\.txt, of text\.paths, does not exist"):
        preview(tmp_path / "text.toml")


def test_a_late_batch_of_training_is_there(config):
    made = preview(config(), batch=1000)
    assert made.step == 1001
    assert made.ok


def test_nothing_needs_a_model(config, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "__init__", None)
    assert preview(config()).ok


def test_several_sources_are_mixed(tmp_path, shards, documents, tokenizer):
    prepare(documents, tmp_path / "more", tokenizer, config=PrepareConfig(val_fraction=0.0))
    sources = SourceConfig(shards), SourceConfig(tmp_path / "more", 3.0)
    write_toml(tmp_path / "run.toml", settings(data=DataConfig(sources, seq_len=T)))
    made = preview(tmp_path / "run.toml", rows=8)
    assert made.ok
    assert made.n_batches is None
    places = {row.parts[0].place.partition(", row")[0] for row in made.rows}
    assert places == {str(source.path / "train") for source in sources}
    assert made.vocabulary.shards == (tokenizer.hash,) * 2
