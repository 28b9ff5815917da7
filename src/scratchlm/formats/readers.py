"""Those who read an exported file for its proof: our importer, llama2.c's formula, llama.cpp."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scratchlm.base.errors import CheckpointError
from scratchlm.base.runtime import cpu_count
from scratchlm.formats.llama2c_formula import Formula
from scratchlm.formats.source import Source, model_of
from scratchlm.model.config import ModelConfig


class Imported:
    """The file as `import` reads it."""

    name = "read back"

    def __init__(self, source: Source) -> None:
        if source.tokenizer is None:
            raise CheckpointError("the exported file holds no tokenizer.")
        self._model, self._tokenizer = model_of(source), source.tokenizer()

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without begin token."""
        return self._tokenizer.encode(text)

    @torch.inference_mode()
    def logits(self, ids: list[int]) -> Tensor:
        """(T,) ids -> (T, V) float32."""
        logits: Tensor = self._model(torch.tensor([ids]))[0]
        return logits


class Llama2c:
    """The formula of llama2.c's run.c, in numpy."""

    name = "llama2.c's formula"

    def __init__(self, folder: Path) -> None:
        self._formula = Formula(folder / "model.bin", folder / "tokenizer.bin")

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without begin token."""
        return self._formula.ids(text)

    def logits(self, ids: list[int]) -> Tensor:
        """(T,) ids -> (T, V) float32."""
        return torch.from_numpy(self._formula.logits(ids))


class LlamaCpp:
    """llama.cpp itself, where the package llama-cpp-python is installed."""

    name = "llama.cpp"

    def __init__(self, path: Path, config: ModelConfig) -> None:
        import llama_cpp

        self._n_ids = config.vocab_size
        try:
            self._llama: Any = llama_cpp.Llama(
                str(path),
                n_ctx=min(config.max_seq_len, 512),
                n_threads=cpu_count(),
                n_gpu_layers=0,
                logits_all=True,
                verbose=False,
            )
        except (ValueError, RuntimeError) as bad:
            raise CheckpointError(f"llama.cpp does not open the exported file: {bad}") from None

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without begin token."""
        ids: list[int] = self._llama.tokenize(text.encode(), add_bos=False, special=False)
        return ids

    def logits(self, ids: list[int]) -> Tensor:
        """(T,) ids -> (T, V) float32."""
        self._llama.reset()
        self._llama.eval(ids)
        return torch.from_numpy(np.array(self._llama.scores[: len(ids), : self._n_ids]))


def has_llama_cpp() -> bool:
    """Whether llama-cpp-python is installed."""
    return importlib.util.find_spec("llama_cpp") is not None
