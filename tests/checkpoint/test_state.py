"""The store of training states: order, purge, the best one, damage, a full disk."""

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from scratchlm.base import files
from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.checkpoint.folder import load_model, write_model_files
from scratchlm.checkpoint.state import CheckpointStore
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer

MODEL = Transformer(ModelConfig(vocab_size=16, max_seq_len=8, n_layers=1, d_model=8, n_heads=2))


def fill(folder: Path) -> None:
    write_model_files(folder, MODEL, None)


def state(step: int) -> dict[str, Any]:
    return {"step": step, "moments": torch.full((50,), float(step)), "rng": torch.get_rng_state()}


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path)


def steps(store: CheckpointStore) -> list[int]:
    return sorted(int(path.name[5:]) for path in store.folder.glob("step-*"))


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_a_checkpoint_is_a_model_folder_with_a_state(store: CheckpointStore):
    folder = store.save(200, fill, state(200))
    assert folder == store.folder / "step-00000200" == store.newest()
    loaded = store.load(folder)
    assert loaded.keys() == state(200).keys()
    assert loaded["step"] == 200
    assert all(torch.equal(loaded[name], state(200)[name]) for name in ("moments", "rng"))
    assert torch.equal(load_model(folder).embedding.weight, MODEL.embedding.weight)


def test_a_resume_reads_a_checkpoint_once(store: CheckpointStore, monkeypatch: pytest.MonkeyPatch):
    """`newest` holds it against its checksums; what follows may trust that."""
    store.save(1, fill, state(1))
    hashed: list[str] = []
    hash_all = files.sha256_of
    monkeypatch.setattr(files, "sha256_of", lambda path: hashed.append(path.name) or hash_all(path))
    newest = store.newest()
    once = sorted(hashed)
    load_model(newest, verify=False)
    store.load(newest, verify=False)
    assert sorted(hashed) == once == sorted(set(once))
    store.load(newest)
    assert len(hashed) == 2 * len(once)


def test_nothing_saved_yet(store: CheckpointStore):
    assert store.newest() is None
    assert store.best() is None


def test_the_last_and_the_best_stay(store: CheckpointStore):
    for step in range(1, 8):
        store.save(step, fill, state(step), best=step in (2, 4))
        best = 4 if step >= 4 else 2
        assert steps(store) == sorted({s for s in (best, step - 1, step) if 1 <= s <= step})
    assert store.newest() == store.folder / "step-00000007"
    assert store.best() == store.folder / "step-00000004"
    assert store.load(store.best())["step"] == 4


def test_steps_are_ordered_as_numbers(store: CheckpointStore):
    for step in (99_999_999, 100_000_000):
        store.save(step, fill, state(step))
    assert store.load(store.newest())["step"] == 100_000_000


def test_keeping_fewer_than_two_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="keep_last = 1 must be at least 2"):
        CheckpointStore(tmp_path, keep_last=1)


def test_a_damaged_newest_is_passed_over_aloud(
    store: CheckpointStore, caplog: pytest.LogCaptureFixture
):
    for step in (1, 2):
        store.save(step, fill, state(step))
    flip(store.folder / "step-00000002" / "state.safetensors", 4000)
    assert store.newest() == store.folder / "step-00000001"
    assert "step-00000002 is passed over" in caplog.text
    assert "state.safetensors does not match its SHA-256" in caplog.text
    with pytest.raises(CheckpointError, match=r"state\.safetensors"):
        store.load(store.folder / "step-00000002")
    store.save(2, fill, state(2))  # the course comes by again
    assert store.newest() == store.folder / "step-00000002"


def test_a_damaged_later_one_does_not_push_good_ones_out(
    store: CheckpointStore, caplog: pytest.LogCaptureFixture
):
    for step in (10, 20, 40):
        store.save(step, fill, state(step))
    flip(store.folder / "step-00000040" / "config.json", 80)
    store.save(30, fill, state(30))
    assert steps(store) == [20, 30, 40]
    assert "later steps than 30, the one just saved: step-00000040" in caplog.text
    assert store.newest() == store.folder / "step-00000030"


def test_a_plain_model_folder_is_not_a_state(
    store: CheckpointStore, caplog: pytest.LogCaptureFixture
):
    folder = store.save(1, fill, state(1))
    (folder / "manifest.json").unlink()
    assert store.newest() is None
    assert "no manifest.json" in caplog.text


def test_a_damaged_best_one_is_passed_over_aloud(
    store: CheckpointStore, caplog: pytest.LogCaptureFixture
):
    for step in (1, 2, 3):
        store.save(step, fill, state(step), best=step == 1)
    assert steps(store) == [1, 2, 3]
    flip(store.folder / "step-00000001" / "model.safetensors", 9000)
    assert store.best() is None
    assert "step-00000001 is passed over" in caplog.text


def test_what_kills_left_is_tidied(store: CheckpointStore):
    """A killed save, a killed removal, and a kill between the two renames of a second save."""
    for step in (1, 2):
        store.save(step, fill, state(step))
    (store.folder / ".step-00000003.partial").mkdir()
    shutil.copytree(store.folder / "step-00000001", store.folder / ".step-00000000.removed")
    retired = store.folder / ".step-00000002.retired"
    (store.folder / "step-00000002").rename(retired)
    assert store.newest() == retired
    assert store.load(retired)["step"] == 2
    store.save(3, fill, state(3))
    assert sorted(p.name for p in store.folder.iterdir()) == ["step-00000002", "step-00000003"]


def test_bit_flips_and_cuts_are_all_seen(store: CheckpointStore):
    """The slow test below tries 10,000."""
    assert seen_damages(store, 200) == 200


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_bit_flips_and_cuts_are_all_seen(store: CheckpointStore):
    assert seen_damages(store, 10_000) == 10_000


def seen_damages(store: CheckpointStore, n: int) -> int:
    """How many of n random damages make the checkpoint unusable; every file has its share."""
    folder = store.save(1, fill, state(1))
    draw = random.Random(0)
    files = sorted(folder.iterdir())
    whole = {path: path.read_bytes() for path in files}
    seen = 0
    for i in range(n):
        path = files[i % len(files)]
        size = len(whole[path])
        match i // len(files) % 8:
            case 0:
                path.write_bytes(whole[path][: draw.randrange(size)])
            case 1:
                path.unlink()
            case _:
                flip(path, draw.randrange(8 * size))
        seen += store.newest() is None
        path.write_bytes(whole[path])
    assert store.newest() == folder
    return seen


def test_a_disk_too_small_is_refused_with_the_numbers(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
):
    store.save(1, fill, state(1))
    usage = shutil.disk_usage(store.folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    large = {"moments": torch.zeros(10**6)}
    with pytest.raises(CheckpointError, match=r"disk full: .*step 2 needs about 4\.0 MB.* 0\.0 MB"):
        store.save(2, fill, large)
    assert steps(store) == [1]
    assert store.load(store.newest())["step"] == 1
