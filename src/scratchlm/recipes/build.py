"""`build`: any text -> a tokenizer and a model folder, with choices that it explains."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import torch

from scratchlm.base import device as devices
from scratchlm.base.config import read_toml
from scratchlm.base.duration import duration
from scratchlm.base.log import say
from scratchlm.corpus import bundled
from scratchlm.corpus.read import SourceFile, find_files, read_documents
from scratchlm.data.loader import DataConfig
from scratchlm.model.config import ModelConfig
from scratchlm.model.transformer import Transformer
from scratchlm.native import ops
from scratchlm.recipes.prepare import PrepareConfig
from scratchlm.recipes.pretrain import PretrainResult, Resume, pretrain
from scratchlm.recipes.run_config import CONFIG, RunConfig, TextConfig
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.training.optimizers import OptimConfig, ScheduleConfig
from scratchlm.training.trainer import TrainConfig

SAMPLE_CHARACTERS = 4_000_000  # of text looked at for the choices
SECONDS = {"cpu": 600.0, "mps": 1200.0, "cuda": 1800.0}  # of training, where the text allows
EPOCHS = 20  # more readings only learn the text by heart (arXiv:2305.16264: gains end near 16)
MFU = 0.35  # share of the fastest matrix product that training reaches, measured on small models


@dataclass(frozen=True)
class Size:
    """A model size, and from how many bytes of text on it is worth its time."""

    from_bytes: float
    n_layers: int
    d_model: int
    seq_len: int
    rows: int  # in one step


# Head width 64 everywhere, which every server accepts; depth and width grow together as in Pythia
# (arXiv:2304.01373, table 1).
SIZES = (
    Size(0, 4, 192, 256, 4),
    Size(3e6, 6, 384, 256, 16),
    Size(100e6, 8, 512, 512, 32),
    Size(1e9, 12, 768, 1024, 64),
)


@dataclass(frozen=True)
class TextFacts:
    """What the choices rest on.

    n_bytes        of all files together
    n_characters   different ones in the part looked at
    bytes_per_character   about 1 for English, 3 for Chinese
    """

    n_bytes: int
    n_characters: int
    bytes_per_character: float


def build(
    paths: str | Path | Sequence[str | Path],
    out: Path | str,
    *,
    tokenizer: Literal["auto", "char", "bpe"] = "auto",
    steps: int = 0,
    resume: Resume = "auto",
    device: str | None = None,
) -> PretrainResult:
    """Train a tokenizer and a model on files and folders of text; the model folder is OUT/model.

    tokenizer  "auto" takes characters for a small text and byte-level BPE for a larger one
    steps      0 chooses as many as suit the text and about ten minutes on a CPU
    resume     as in `pretrain`; a run goes on with what was chosen for it, whatever this machine
               would choose now
    raises     DataError for text that cannot be read or is too short
    """
    config = settings_for(
        paths, out, tokenizer=tokenizer, steps=steps, resume=resume, device=device
    )
    return pretrain(config, out, resume=resume, device=device)


def settings_for(
    paths: str | Path | Sequence[str | Path],
    out: Path | str,
    *,
    tokenizer: Literal["auto", "char", "bpe"] = "auto",
    steps: int = 0,
    resume: Resume = "auto",
    device: str | None = None,
) -> RunConfig:
    """The settings that `build` trains with, said with their reasons; nothing is written."""
    if resume != "never" and (Path(out) / CONFIG).is_file():
        config = _choices_of(Path(out), tokenizer, steps)
    else:
        chosen, _ = devices.choose_device(device)
        facts = look_at(find_files(bundled.resolve_all(paths)))
        config, reasons = choose(facts, chosen, tokenizer=tokenizer, steps=steps)
        for reason in reasons:
            say(reason)
    text = TextConfig(tuple(str(path) for path in bundled.listed(paths)))
    return dataclasses.replace(config, text=text)


def _choices_of(run: Path, tokenizer: Literal["auto", "char", "bpe"], steps: int) -> RunConfig:
    """The settings of a run that goes on, with what the caller asks for now."""
    say(f"{run} holds a run, which goes on with the settings chosen for it")
    config = read_toml(RunConfig, run / CONFIG)
    if tokenizer != "auto":
        config = config.replace("tokenizer", kind=tokenizer)
    return config.replace("train", steps=steps) if steps else config


def look_at(files: list[SourceFile]) -> TextFacts:
    """Read the beginning of the text and count."""
    characters: set[str] = set()
    n, n_bytes = 0, 0
    for text in islice(_texts(files), 1000):
        characters.update(text)
        n += len(text)
        n_bytes += len(text.encode())
        if n >= SAMPLE_CHARACTERS:
            break
    on_disk = sum(file.n_bytes for file in files)
    return TextFacts(max(on_disk, n_bytes), len(characters), n_bytes / max(1, n))


def _texts(files: list[SourceFile]) -> Iterator[str]:
    for document in read_documents(files):
        yield document.text


def choose(
    facts: TextFacts,
    device: torch.device,
    *,
    tokenizer: Literal["auto", "char", "bpe"] = "auto",
    steps: int = 0,
) -> tuple[RunConfig, list[str]]:
    """The settings for a text on a device, and the reason for each in words."""
    reasons = [
        f"text: {facts.n_bytes / 1e6:,.1f} MB, {facts.n_characters:,} different characters, "
        f"{facts.bytes_per_character:.1f} bytes each"
    ]
    vocabulary, bytes_per_token = _choose_tokenizer(facts, tokenizer, reasons)
    n_tokens = int(facts.n_bytes / bytes_per_token)
    size = _choose_size(facts, device, n_tokens, reasons)
    model = ModelConfig(
        family="qwen3",
        n_layers=size.n_layers,
        d_model=size.d_model,
        n_heads=size.d_model // 64,
        max_seq_len=size.seq_len,
        tie_embeddings=vocabulary.kind != "char",
        init="zero",
    )
    if not steps:
        steps = _choose_steps(model, vocabulary, size, n_tokens, device, reasons)
    rows_at_once = min(size.rows, max(1, 16_384 // size.seq_len))
    tied = model.tie_embeddings
    config = RunConfig(
        text=TextConfig(("-",)),
        tokenizer=vocabulary,
        prepare=PrepareConfig(val_fraction=0.1 if n_tokens < 1e6 else 0.02),
        data=DataConfig(seq_len=size.seq_len),
        model=model,
        optim=OptimConfig(
            optimizer="muon",
            lr=0.02,
            embedding_lr=0.006 if tied else 0.06,
            head_lr=0.02,
            scalar_lr=0.006 if tied else 0.02,
            beta1=0.8,
            momentum_warmup=300,
        ),
        schedule=ScheduleConfig(kind="wsd", warmup=min(20, steps // 10), floor=0.0, cooldown=0.5),
        train=TrainConfig(
            steps=steps,
            micro_batch=rows_at_once,
            accumulate=max(1, size.rows // rows_at_once),
            compile=steps >= 400 and not ops.available(device),  # our kernels are faster
            eval_every=max(25, steps // 8),
            eval_batches=200,
            sample_every=max(25, steps // 2),
            save_every=max(1, steps // 5),
        ),
    )
    return config, reasons


def _choose_tokenizer(
    facts: TextFacts, wanted: Literal["auto", "char", "bpe"], reasons: list[str]
) -> tuple[TokenizerConfig, float]:
    """The tokenizer's settings, and about how many bytes a token will be."""
    alphabet_is_small = facts.n_characters <= 8192
    if wanted == "char" or (wanted == "auto" and facts.n_bytes < 3e6 and alphabet_is_small):
        why = "as you asked" if wanted == "char" else "the text is small, its alphabet too"
        reasons.append(f"tokenizer: characters, {why}")
        return TokenizerConfig(kind="char"), facts.bytes_per_character
    size = 4096
    for vocab_size, from_bytes in ((8192, 30e6), (16_384, 300e6), (32_768, 3e9)):
        if facts.n_bytes >= from_bytes:
            size = vocab_size
    if facts.n_bytes < 1e6:
        size = 1024
    reasons.append(f"tokenizer: byte-level BPE, {size:,} ids: writes any text, grows with yours")
    return TokenizerConfig(kind="bpe", vocab_size=size), 3.5


def _choose_size(facts: TextFacts, device: torch.device, n_tokens: int, reasons: list[str]) -> Size:
    fitting = [size for size in SIZES if facts.n_bytes >= size.from_bytes]
    if device.type == "cpu":
        fitting = fitting[:2]
    size = fitting[-1]
    room = max(8, n_tokens // 20)  # so that the validation split has a row
    if size.seq_len > room:
        size = dataclasses.replace(size, seq_len=room)
    reasons.append(
        f"model: {size.n_layers} layers, {size.d_model} wide, context {size.seq_len} tokens: "
        f"what {'a CPU' if device.type == 'cpu' else 'this text'} feeds in reasonable time"
    )
    return size


def _choose_steps(
    model: ModelConfig,
    vocabulary: TokenizerConfig,
    size: Size,
    n_tokens: int,
    device: torch.device,
    reasons: list[str],
) -> int:
    """As many as the text can teach, within the device's time."""
    dtype, _ = devices.resolve_precision("auto", device)
    shape = dataclasses.replace(model, vocab_size=max(vocabulary.vocab_size, 256))
    with torch.device("meta"):
        flops = Transformer(shape).flops_per_token(size.seq_len)
    per_second = MFU * devices.matmul_flops(device, dtype) / flops
    tokens_per_step = size.rows * size.seq_len
    by_time = SECONDS[device.type] * per_second / tokens_per_step
    by_text = EPOCHS * n_tokens / tokens_per_step
    steps = max(20, int(min(by_time, by_text)))
    seconds = steps * tokens_per_step / per_second
    epochs = steps * tokens_per_step / max(1, n_tokens)
    reasons.append(
        f"steps: {steps:,} of {tokens_per_step:,} tokens, {epochs:.1f} readings of the text, about "
        f"{duration(seconds)} here; set steps for another number"
    )
    return steps
