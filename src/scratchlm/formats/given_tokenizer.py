"""A tokenizer that lies apart from its model, in whatever file it is."""

from pathlib import Path
from typing import Any

from scratchlm.base.errors import CheckpointError
from scratchlm.checkpoint.weights import read_table
from scratchlm.formats import llama2c
from scratchlm.formats.torch_file import read_pickle
from scratchlm.model.config import ModelConfig
from scratchlm.tokenizer.compose import compose_characters
from scratchlm.tokenizer.gpt2 import GPT2, gpt2_tokenizer
from scratchlm.tokenizer.sentencepiece import from_model_file
from scratchlm.tokenizer.tokenizer import Tokenizer

_LETTERS = ("stoi", "char_to_id", "vocab")  # of tutorials' own tokenizer.json


def read_given(name: Path | str, config: ModelConfig) -> Tokenizer:
    """Read the tokenizer that the user names for a model.

    name     a folder or tokenizer.json, llama2.c's tokenizer.bin, a SentencePiece .model, nanoGPT's
             meta.pkl, a JSON table of characters, or "gpt2"
    raises   CheckpointError for what is missing, damaged, or none of these
    """
    path = Path(name)
    if str(name) == GPT2 and not path.exists():
        return gpt2_tokenizer()
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist. A tokenizer is a folder or a tokenizer.json, llama2.c's "
            "tokenizer.bin, a SentencePiece .model, nanoGPT's meta.pkl, or gpt2."
        )
    if path.is_dir():
        return Tokenizer.load(path)
    if path.suffix == ".bin":
        return llama2c.read_tokenizer(path, config.vocab_size)
    if path.suffix == ".model":
        return from_model_file(path, begins=True)  # Llama and its kin put bos before every text
    return read_meta(path) if path.suffix == ".pkl" else _read_json(path)


def _read_json(path: Path) -> Tokenizer:
    """A tokenizer.json of the tokenizers library, or a table of characters."""
    found = read_table(path)
    for name in _LETTERS:
        ids = found.get(name)
        if isinstance(ids, dict) and "model" not in found and "merges" not in found:
            letters = {i: letter for letter, i in ids.items() if isinstance(i, int)}
            if len(letters) < len(ids):
                raise CheckpointError(f"{path}: characters of {name} share an id, or have none.")
            return _of_letters(letters, path, name)
    return Tokenizer.load(path)


def read_meta(path: Path) -> Tokenizer:
    """The characters of nanoGPT's meta.pkl.

    raises   CheckpointError for a file that is missing, damaged, or another pickle
    """
    found = read_pickle(path)
    letters = found.get("itos") if isinstance(found, dict) else None
    return _of_letters(letters, path, "itos")


def _of_letters(letters: Any, path: Path, name: str) -> Tokenizer:
    """A tokenizer of the characters that ids stand for."""
    if not isinstance(letters, dict) or set(letters) != set(range(len(letters))):
        raise CheckpointError(f"{path} holds no characters by id ({name}).")
    characters = [letters[i] for i in range(len(letters))]
    if not all(isinstance(c, str) and len(c) == 1 for c in characters):
        raise CheckpointError(f"{path}: {name} does not hold single characters.")
    if len(set(characters)) < len(characters):
        raise CheckpointError(f"{path}: a character stands twice in {name}.")
    try:
        return compose_characters(characters, {})
    except CheckpointError as bad:  # half a surrogate pair
        raise CheckpointError(f"{path}: {bad}") from None
