"""llama.cpp itself is asked about what we export: needs pip install llama-cpp-python."""

from pathlib import Path

import pytest
import torch

from scratchlm.checkpoint.folder import save_model
from scratchlm.corpus import bundled
from scratchlm.formats.proof import TEXT
from scratchlm.recipes.export_model import export_model
from scratchlm.recipes.import_model import import_model
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.train import train_tokenizer

pytestmark = pytest.mark.slow
pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

PROSE = TEXT + "".join(
    bundled.resolve(f"bundled:{name}").read_text(encoding="utf-8")[:20_000]
    for name in ("shakespeare", "tang")
)
FAMILIES = {
    "llama": {"n_kv_heads": 2, "rope_theta": 5e5},
    "mistral": {"d_head": 32},
    "qwen2": {"n_kv_heads": 2, "tie_embeddings": False},
    "qwen3": {"n_kv_heads": 2, "d_head": 32},
    "gpt2": {},
    "gemma3_text": {"d_head": 32, "window": 7, "global_every": 6, "local_rope_theta": 1e4},
}


def export(make_model, folder: Path, words: str, kind: str, **changes) -> list[str]:
    """Export a random model with a trained tokenizer; what llama.cpp was asked."""
    config = TokenizerConfig(kind=words, vocab_size=600)
    tokenizer = train_tokenizer([PROSE], config)
    model = make_model(vocab_size=tokenizer.vocab_size, **changes)
    model.initialise(torch.Generator().manual_seed(1))
    for weight in model.parameters():
        weight.data *= 3 if weight.ndim > 1 else 1
    save_model(folder / "model", model, tokenizer)
    proof = export_model(folder / "model", folder / "m.gguf", kind=kind).proof
    assert proof.passed
    return [check.what for check in proof.checks if "llama.cpp" in check.what]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family, make_model, tmp_path):
    asked = export(make_model, tmp_path, "bpe", "f32", family=family, **FAMILIES[family])
    assert len(asked) == 3


@pytest.mark.parametrize("words", ["bpe", "sentencepiece-bpe", "char"])
@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0", "q4_0"])
def test_every_tokenizer_and_type(words, kind, make_model, tmp_path):
    asked = export(make_model, tmp_path, words, kind, family="llama")
    assert len(asked) == (2 if kind.startswith("q") else 3)


def test_stories_are_told_by_llama_cpp(shared_data, tmp_path):
    import llama_cpp

    folder = shared_data / "models" / "stories260K"
    words = folder / "tok512.bin"
    model = import_model(folder / "stories260K.bin", tmp_path / "m", tokenizer=words).model
    out = export_model(model, tmp_path / "m.gguf", kind="f32").out
    llama = llama_cpp.Llama(str(out), n_ctx=256, verbose=False)
    text = llama("", max_tokens=201, temperature=0)["choices"][0]["text"]
    expected = (folder / "expected_stdout_t0_n200.txt").read_text(encoding="utf-8")
    assert text.strip() == expected.strip()
