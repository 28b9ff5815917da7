"""What is exported says the same when it is read back, and what cannot be is refused before."""

import json
from pathlib import Path

import gguf
import pytest
import torch

from scratchlm.base.errors import CheckpointError, ConfigError
from scratchlm.checkpoint.folder import load_model, save_model
from scratchlm.corpus import bundled
from scratchlm.formats import gguf_write
from scratchlm.formats.gguf_tokenizer import read_tokenizer
from scratchlm.formats.gguf_tokens import token_fields
from scratchlm.formats.proof import TEXT
from scratchlm.model.rope import RopeScaling
from scratchlm.recipes.export_model import export_model
from scratchlm.recipes.import_model import import_model
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.tokenizer.tokenizer import Tokenizer
from scratchlm.tokenizer.train import train_tokenizer

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


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    sizes = dict.fromkeys(("bpe", "sentencepiece-bpe", "sentencepiece-unigram"), 600)
    made = {
        kind: train_tokenizer([PROSE], TokenizerConfig(kind=kind, vocab_size=size))
        for kind, size in sizes.items()
    }
    made["char"] = train_tokenizer([PROSE], TokenizerConfig(kind="char"))
    return made


@pytest.fixture
def save(make_model, tokenizers, tmp_path):
    """Saves a random model with a tokenizer of that kind, and returns its folder."""

    def save_(kind: str = "bpe", padding: int = 0, **changes) -> Path:
        words = tokenizers[kind]
        model = make_model(vocab_size=words.vocab_size + padding, **changes)
        model.initialise(torch.Generator().manual_seed(1))
        for weight in model.parameters():
            weight.data *= 3 if weight.ndim > 1 else 1
        save_model(tmp_path / "model", model, words)
        return tmp_path / "model"

    return save_


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_comes_back_as_it_was(family, save, tmp_path):
    folder = save(padding=5, family=family, **FAMILIES[family])
    result = export_model(folder, tmp_path / "m.gguf", kind="f32")
    assert result.proof.passed
    assert [check.found for check in result.proof.checks if "greedy" in check.what] == ["equal"]
    stored = json.loads((tmp_path / "m.proof.json").read_text())
    assert stored["passed"]
    assert len(stored["checks"]) == len(result.proof.checks) >= 4

    again = import_model(tmp_path / "m.gguf", tmp_path / "again")
    ours, theirs = load_model(folder), load_model(again.model)
    tokens = torch.randint(0, 600, (1, 20))
    torch.testing.assert_close(ours(tokens), theirs(tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["f16", "bf16", "q8_0", "q4_0"])
def test_every_type_is_within_its_tolerance(kind, save, tmp_path):
    result = export_model(save(family="llama"), tmp_path / "m.gguf", kind=kind)
    assert result.proof.passed
    tensors = gguf.GGUFReader(tmp_path / "m.gguf").tensors
    kinds = {tensor.tensor_type.name for tensor in tensors if len(tensor.shape) > 1}
    assert kinds == {kind.upper()}
    greedy = [check for check in result.proof.checks if "greedy" in check.what]
    assert bool(greedy) == (kind in ("f16", "bf16"))


def test_rows_that_blocks_do_not_fill_go_as_halves(save, tmp_path):
    export_model(save(d_model=48, d_ff=80), tmp_path / "m.gguf", kind="q8_0")
    kinds = {t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert kinds == {"F32", "F16"}


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece-bpe", "char"])
def test_tokenizers_keep_their_ids(kind, tokenizers):
    before = tokenizers[kind]
    fields = token_fields(before, before.vocab_size + 3)
    after = read_tokenizer({f"tokenizer.ggml.{k}": v for k, v in fields.items()}, "here")
    assert after.vocab_size == before.vocab_size + 3
    assert after.encode(PROSE) == before.encode(PROSE)
    assert after.decode(before.encode(PROSE)) == PROSE
    assert (after.bos_id, after.eos_id) == (before.bos_id, before.eos_id)


@pytest.mark.parametrize("kind", ["sentencepiece-bpe", "char"])
def test_models_with_other_tokenizers_are_exported(kind, save, tmp_path):
    assert export_model(save(kind), tmp_path / "m.gguf").proof.passed


def test_a_template_travels(save, tmp_path):
    folder = save()
    (folder / "manifest.json").unlink()
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}", encoding="utf-8")
    export_model(folder, tmp_path / "m.gguf")
    again = import_model(tmp_path / "m.gguf", tmp_path / "again").model
    assert (again / "chat_template.jinja").read_text() == "{{ messages[0].content }}"


REFUSED = {
    "the exact one": {"family": "gpt2", "exact_gelu": True},
    "no window in this family": {"family": "mistral", "window": 8},
    "does not stretch angles dynamically": {
        "rope_scaling": RopeScaling("dynamic", 2.0, 32),
    },
    "the paper's numbers only": {"rope_scaling": RopeScaling("yarn", 2.0, 32, beta_fast=20.0)},
    "family mixtral is not supported": {"family": "mixtral", "n_experts": 4},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_llama_cpp_computes_otherwise_is_refused(reason, save, tmp_path):
    folder = save(**REFUSED[reason])
    with pytest.raises(ConfigError, match=reason):
        export_model(folder, tmp_path / "m.gguf")
    assert not (tmp_path / "m.gguf").exists()


def test_tokenizers_that_llama_cpp_lacks_are_refused(save, tmp_path):
    with pytest.raises(ConfigError, match="no tokenizer of kind sentencepiece-unigram"):
        export_model(save("sentencepiece-unigram"), tmp_path / "m.gguf")


@pytest.mark.parametrize("scaling", ["linear", "yarn", "llama3"])
def test_stretched_angles_come_back(scaling, save, tmp_path):
    rope = RopeScaling(scaling, 4.0, 0 if scaling == "linear" else 16)
    if scaling == "llama3":
        rope = RopeScaling("llama3", 32.0, 8192)
    folder = save(family="llama", rope_scaling=rope)
    assert export_model(folder, tmp_path / "m.gguf", kind="f32").proof.passed


@pytest.mark.parametrize("kind", ["f32", "q8_0"])
@pytest.mark.parametrize("tied", [True, False])
def test_llama2c_says_the_same(kind, tied, save, tmp_path):
    folder = save("sentencepiece-bpe", family="llama", n_kv_heads=2, tie_embeddings=tied)
    result = export_model(folder, tmp_path / "out", to="llama2c", kind=kind)
    assert result.proof.passed
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "model.bin",
        "proof.json",
        "tokenizer.bin",
    ]
    again = import_model(tmp_path / "out" / "model.bin", tmp_path / "again").model
    assert Tokenizer.load(again).begins
    if kind == "f32":
        tokens = torch.randint(0, 600, (1, 20))
        torch.testing.assert_close(load_model(again)(tokens), load_model(folder)(tokens))


@pytest.mark.parametrize("to", ["llama2c", "ollama"])
def test_what_was_exported_is_imported_by_its_folder(to, save, tmp_path):
    folder = save("sentencepiece-bpe", family="llama")
    out = export_model(folder, tmp_path / "out", to=to).out
    assert import_model(out, tmp_path / "again").has_tokenizer


def test_llama2c_refuses_what_run_c_does_not_compute(save, tmp_path):
    with pytest.raises(ConfigError, match=r"model\.family = qwen3, not llama"):
        export_model(save("sentencepiece-bpe"), tmp_path / "out", to="llama2c")
    with pytest.raises(ConfigError, match="no tokenizer of kind bpe"):
        export_model(save(family="llama"), tmp_path / "out", to="llama2c")
    with pytest.raises(ConfigError, match="no type f16"):
        export_model(save(family="llama"), tmp_path / "out", to="llama2c", kind="f16")
    assert not (tmp_path / "out").exists()


def test_a_file_that_says_something_else_is_not_kept(save, tmp_path, monkeypatch):
    true = gguf.quantize
    monkeypatch.setattr(gguf_write.gguf, "quantize", lambda data, kind: true(data * 1.01, kind))
    with pytest.raises(CheckpointError, match="does not say what the model says"):
        export_model(save(), tmp_path / "m.gguf", kind="f32")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_places_that_are_taken_are_left_alone(save, tmp_path):
    folder = save()
    export_model(folder, tmp_path / "m.gguf")
    with pytest.raises(ConfigError, match="give --overwrite"):
        export_model(folder, tmp_path / "m.gguf")
    export_model(folder, tmp_path / "m.gguf", overwrite=True)
    with pytest.raises(ConfigError, match=r"does not end in \.gguf"):
        export_model(folder, tmp_path / "m.bin")
    with pytest.raises(ConfigError, match="holds something else"):
        export_model(folder, folder, to="ollama", overwrite=True)


def test_the_default_place_is_beside_the_model(save, tmp_path):
    assert export_model(save()).out == tmp_path / f"{tmp_path.name}-f16.gguf"


CHATML = """\
{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}\
{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}\
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


def test_ollama_gets_a_modelfile(save, tmp_path):
    folder = save()
    (folder / "manifest.json").unlink()
    (folder / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    result = export_model(folder, tmp_path / "out", to="ollama")
    assert result.proof.passed
    text = (tmp_path / "out" / "Modelfile").read_text()
    assert text.startswith("FROM ./model.gguf\nPARAMETER num_ctx 64\n")
    assert 'SYSTEM """You are helpful."""' in text
    assert (
        '{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        "{{ else }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n{{ end }}{{ end }}"
        '<|im_start|>assistant\n"""'
    ) in text


def test_a_base_model_for_ollama_continues(save, tmp_path):
    export_model(save(), tmp_path / "out", to="ollama")
    assert 'TEMPLATE """{{ .Prompt }}"""' in (tmp_path / "out" / "Modelfile").read_text()


def test_a_template_that_is_no_row_of_messages_is_refused(save, tmp_path):
    folder = save()
    (folder / "manifest.json").unlink()
    odd = "{% for m in messages %}{{ loop.index }}{{ m.content }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(odd, encoding="utf-8")
    with pytest.raises(ConfigError, match="no row of messages"):
        export_model(folder, tmp_path / "out", to="ollama")
