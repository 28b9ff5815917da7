"""nanoGPT's side of the time-to-loss benchmark: the CPU recipe of its README, unedited."""

import pickle
import re
import shutil
import statistics
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from process import How, call, run
from scratchlm.base.files import write_whole
from scratchlm.corpus import bundled

CONFIG = "config/train_shakespeare_char.py"
SEQ_LEN = 64
RECIPE = (
    f"--device=cpu --compile=False --eval_iters=20 --log_interval=1 --block_size={SEQ_LEN} "
    "--batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 "
    "--dropout=0.0"
).split()
TINY = ["--max_iters=3", "--lr_decay_iters=3", "--eval_interval=2", "--eval_iters=1"]


def copy_checkout(checkout: Path, folder: Path) -> None:
    """Copy a checkout of nanoGPT and put tiny shakespeare there, as its prepare.py would."""
    shutil.copytree(checkout, folder, ignore=shutil.ignore_patterns(".git"))
    data = folder / "data" / "shakespeare_char"
    data.mkdir(parents=True, exist_ok=True)
    text = bundled.resolve("bundled:shakespeare").read_text(encoding="utf-8")
    letters = sorted(set(text))
    ids = {letter: i for i, letter in enumerate(letters)}
    n_train = int(len(text) * 0.9)
    for name, part in (("train", text[:n_train]), ("val", text[n_train:])):
        (data / f"{name}.bin").write_bytes(array("H", (ids[letter] for letter in part)).tobytes())
    with write_whole(data / "meta.pkl") as file:
        pickle.dump(
            {"vocab_size": len(letters), "itos": dict(enumerate(letters)), "stoi": ids}, file
        )


def learn(folder: Path, how: How, more: Sequence[str]) -> dict[str, Any]:
    """Train by the recipe, then read the whole validation tail in windows of its context.

    folder    from `copy_checkout`
    more      options after the recipe's
    returns   train_s: its median time of a step, times the steps; other_s: the rest of the program,
              its evaluations included
    """
    ended = run([how.python, "train.py", CONFIG, *RECIPE, *more], how, folder)
    step_ms = [float(ms) for ms in re.findall(r"^iter \d+: .* time ([\d.]+)ms", ended.output, re.M)]
    train_s = statistics.median(step_ms) * len(step_ms) / 1e3
    held_out = call("time_to_loss_nanogpt:read_tail", {"folder": str(folder)}, how)
    return {
        "steps": len(step_ms),
        "train_s": train_s,
        "other_s": ended.seconds - train_s,
        "loss_nats": held_out["loss_nats"],
        "n_targets": held_out["n_targets"],
        "parameters": held_out["parameters"],
        "peak_memory_mb": ended.peak_memory_mb,
        "step_ms": step_ms,
    }


def read_tail(folder: str) -> dict[str, Any]:
    """The loss of its checkpoint over the tail; every target once, in windows without overlap."""
    import torch  # in the measured process only: the one that starts it stays small

    sys.path.insert(0, folder)
    from model import GPT, GPTConfig

    checkpoint = torch.load(Path(folder) / "out-shakespeare-char" / "ckpt.pt", weights_only=True)
    model = GPT(GPTConfig(**checkpoint["model_args"]))
    model.load_state_dict(checkpoint["model"])
    model.eval()
    ids = array("H", (Path(folder) / "data" / "shakespeare_char" / "val.bin").read_bytes())
    tail = torch.tensor(ids, dtype=torch.int64)
    nats, n_targets = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(tail) - 1, SEQ_LEN):
            window = tail[None, start : start + SEQ_LEN + 1]
            _, loss = model(window[:, :-1], window[:, 1:])
            nats += loss.item() * (window.shape[1] - 1)
            n_targets += window.shape[1] - 1
    parameters = sum(weight.numel() for weight in model.parameters())
    return {"loss_nats": nats / n_targets, "n_targets": n_targets, "parameters": parameters}
