"""`import` and `inspect`: models of other programs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from scratchlm.base.progress import in_bytes
from scratchlm.cli.command import Command
from scratchlm.recipes.import_model import Dtype, import_model
from scratchlm.recipes.inspect import ModelFacts, inspect


@dataclass(frozen=True)
class Import(Command):
    """Turn a model of another program into a model folder, one tensor at a time.

    SOURCE is a GGUF file, a .pt of nanoGPT or llama2.c, llama2.c's model.bin, OpenAI's GPT-2 folder
    or a Hugging Face folder. Nothing that is in a pickle is run. hf:OWNER/NAME is downloaded from
    the hub (HF_ENDPOINT names a mirror, HF_TOKEN opens what is closed), gpt2, gpt2-medium,
    gpt2-large and gpt2-xl from OpenAI (SCRATCHLM_GPT2_URL names a mirror).

    Examples:
      scratchlm import smollm2-135m-q4_1.gguf models/smollm2
      scratchlm import stories15M.bin models/stories --tokenizer tokenizer.bin
      scratchlm import gpt2 models/gpt2
      scratchlm import hf:HuggingFaceTB/SmolLM2-135M models/smollm2
    """

    source: Positional[str]  # a file or folder, hf:OWNER/NAME, gpt2
    out: Positional[Path]  # the model folder to write
    tokenizer: str | None = None  # instead of its own: folder, .json, .bin, .model, .pkl or gpt2
    dtype: Dtype = "auto"  # of the weights; auto: as stored, float32 where they were quantised
    overwrite: bool = False  # replace a model folder that is there, never anything else

    def run(self) -> None:
        """Import, and print the folder's path."""
        result = import_model(
            self.source,
            self.out,
            tokenizer=self.tokenizer,
            dtype=self.dtype,
            overwrite=self.overwrite,
        )
        print(result.model)


@dataclass(frozen=True)
class Inspect(Command):
    """Say what a model is: architecture, parameters by part, sizes, tokenizer, origin.

    No weight is loaded. MODEL is a folder or anything that import takes.

    Examples:
      scratchlm inspect runs/quickstart
      scratchlm inspect smollm2-135m-q4_1.gguf
    """

    model: Positional[str]  # the folder of a model or a run, or whatever import takes

    def run(self) -> None:
        """Print the table."""
        facts = inspect(self.model)
        for name, value in rows(facts):
            print(f"{name:12} {value}")


def rows(facts: ModelFacts) -> list[tuple[str, str]]:
    """(what, in words) of each line."""
    c = facts.config
    heads = f"{c.n_heads} heads of {c.d_head}"
    if c.n_kv_heads != c.n_heads:
        heads += f" on {c.n_kv_heads} of keys and values"
    shape = f"{c.n_layers} layers, {c.d_model} wide, {heads}, feed-forward {c.d_ff:,}"
    if c.n_experts:
        shape += f", {c.n_experts} experts of which {c.n_active} serve a token"
    context = f"{c.max_seq_len:,} tokens"
    if c.window:
        context += f", of which local layers see {c.window:,}"
    if c.rope_scaling.kind != "none":
        context += f", stretched {c.rope_scaling.factor:g} times ({c.rope_scaling.kind})"
    parts = ", ".join(f"{name} {n:,}" for name, n in facts.parameters.items() if n)
    memory = ", ".join(f"{in_bytes(n)} in {dtype}" for dtype, n in facts.memory.items())
    lines = [
        ("model", str(facts.path)),
        ("format", facts.format),
        ("family", c.family),
        ("shape", shape),
        ("context", context),
        ("vocabulary", f"{c.vocab_size:,} ids, head {'tied' if c.tie_embeddings else 'apart'}"),
        ("parameters", f"{facts.total:,}: {parts}"),
        ("stored", f"{facts.stored}, {in_bytes(facts.n_bytes)}"),
        ("memory", f"{memory}; {facts.cache:,} bytes for each token of context"),
        ("tokenizer", facts.tokenizer or "none"),
        ("chats", "have a template" if facts.template else "have no template"),
    ]
    if facts.active != facts.total:
        lines.insert(7, ("active", f"{facts.active:,} for each token"))
    if facts.origin:
        lines += [("origin", f"{name}: {value}") for name, value in _flat(facts.origin)]
    return lines


def _flat(facts: dict[str, Any]) -> list[tuple[str, Any]]:
    """The facts of a table and of the tables in it."""
    found: list[tuple[str, Any]] = []
    for name, value in facts.items():
        found += _flat(value) if isinstance(value, dict) else [(name, value)]
    return found
