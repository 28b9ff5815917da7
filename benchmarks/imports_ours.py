"""The formats that `imports.py` measures, made and imported."""

import os
import time
from pathlib import Path
from typing import Any

import torch

from scratchlm.base.runtime import peak_memory
from scratchlm.checkpoint.folder import save_model
from scratchlm.corpus import bundled
from scratchlm.formats import gguf_write, llama2c_write
from scratchlm.formats.gguf_tokens import token_fields
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.recipes.import_model import import_model, open_any
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.train import train_tokenizer


def make(folder: str, quick: bool) -> dict[str, Any]:
    """Write the model in every format; returns where, and how many bytes an import writes."""
    text = bundled.resolve("bundled:shakespeare").read_text(encoding="utf-8")
    words = train_tokenizer([text], TokenizerConfig(kind="sentencepiece-bpe", vocab_size=4096))
    n_layers, n_ids = (2, 4096) if quick else (30, 49_152)
    config = ModelConfig(
        "llama", n_ids, 2048, n_layers, d_model=576, n_heads=9, n_kv_heads=3, d_ff=1536
    )
    model = Transformer(config)
    model.initialise(torch.Generator().manual_seed(0))
    root = Path(folder)
    save_model(root / "folder", model, words)
    paths = {"folder": root / "folder"}
    with open_any(root / "folder") as source:
        fields = token_fields(words, n_ids)
        for kind in ("f32", "f16", "q8_0", "q4_0"):
            paths[f"gguf-{kind}"] = path = root / f"{kind}.gguf"
            gguf_write.write_gguf(source, dict(fields), path, kind, name=kind)  # type: ignore[arg-type]
        paths["llama2c"] = root / "model.bin"
        llama2c_write.write_model(source, paths["llama2c"], "f32")
    files = {name: p / "model.safetensors" if p.is_dir() else p for name, p in paths.items()}
    n = model.n_parameters()
    return {
        "paths": {name: str(path) for name, path in paths.items()},
        "files": {name: str(path) for name, path in files.items()},
        "written": {name: (2 if name == "gguf-f16" else 4) * n for name in paths},
        "facts": {"parameters": n},
    }


def bring(source: str, out: str) -> dict[str, Any]:
    """Import it once; the source is not in the cache before."""
    path = Path(source)
    file = path / "model.safetensors" if path.is_dir() else path
    handle = os.open(file, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)
    before = peak_memory() or 0
    began = time.perf_counter()
    import_model(source, out, overwrite=True)
    seconds = time.perf_counter() - began
    mb = file.stat().st_size / 1e6
    peak = (peak_memory() or 0) / 1e6
    facts = {"peak_memory_mb": peak, "memory_before_mb": before / 1e6}
    return {"seconds": seconds, "mb": mb, "mb_per_s": mb / seconds, **facts}
