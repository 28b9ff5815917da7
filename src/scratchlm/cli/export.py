"""`export`: a model for another program."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from scratchlm.base.log import say
from scratchlm.base.progress import in_bytes
from scratchlm.cli.command import Command
from scratchlm.recipes.export_model import Kind, Target, export_model

NEXT = {
    "gguf": "try it: llama-cli -m {out}",
    "ollama": "try it: ollama create NAME -f {out}/Modelfile",
    "llama2c": "try it: ./run {out}/model.bin -z {out}/tokenizer.bin",
}


@dataclass(frozen=True)
class Export(Command):
    """Write a model for another program, with proof that it says the same there.

    --to gguf     one file for llama.cpp and all that is built on it
    --to ollama   a folder with that file and a Modelfile: ollama create NAME -f Modelfile
    --to llama2c  a folder with model.bin and tokenizer.bin, for run.c (f32) and runq.c (q8_0)

    The file is read back: its numbers, the ids of a text in English, Chinese, code and emoji, the
    logits of that text, and, of f32, f16 and bf16, 64 tokens that the model writes. Where the
    package llama-cpp-python is installed, llama.cpp is asked as well. What differs is not kept.

    Examples:
      scratchlm export runs/quickstart --to gguf
      scratchlm export runs/quickstart --to gguf --type q8_0 --out shakespeare.gguf
      scratchlm export models/smollm2 --to ollama --out smollm2-ollama
    """

    model: Positional[str]  # the folder of a model or a run, or whatever import takes
    to: Target = "gguf"  # for which program
    type: Kind | None = None  # of numbers; none: f16, or bf16 where the model is; llama2c: f32
    out: Path | None = None  # the .gguf file, or the folder; none: beside the model
    name: str | None = None  # of the model, for those who list it; none: that of its folder
    overwrite: bool = False  # replace an older export of that name

    def run(self) -> None:
        """Export, print the proof and the path."""
        result = export_model(
            self.model,
            self.out,
            to=self.to,
            kind=self.type,
            name=self.name,
            overwrite=self.overwrite,
        )
        for line in result.proof.lines():
            say(line)
        say(f"{in_bytes(result.n_bytes)} as {result.kind}; {NEXT[self.to].format(out=result.out)}")
        print(result.out)
