"""transformers' side of the start-up benchmark: `startup_transformers.py MODEL PROMPT N_TOKENS`.

Prints each token as it comes, without waiting for the end of a word like its own TextStreamer.
"""

import sys
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.generation.streamers import BaseStreamer


class Printer(BaseStreamer):
    """Prints every token but the prompt's."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._prompt_is_over = False

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt first, then one token at a time."""
        if self._prompt_is_over:
            print(self._tokenizer.decode(value), end="", flush=True)
        self._prompt_is_over = True

    def end(self) -> None:
        """Close the line."""
        print()


def main(folder: str, prompt: str, n_tokens: str) -> None:
    """Load, continue greedily, print."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    inputs = tokenizer(prompt, return_tensors="pt")
    model.generate(
        inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        do_sample=False,
        max_new_tokens=int(n_tokens),
        streamer=Printer(tokenizer),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
