"""What `build` trains: a choice from a text, a machine and a length of time, with its reasons."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from scratchlm.base import device as devices
from scratchlm.base.duration import duration
from scratchlm.base.errors import DataError
from scratchlm.corpus.read import SourceFile, read_documents
from scratchlm.model.transformer import Transformer
from scratchlm.native import ops
from scratchlm.recipes import scaling
from scratchlm.recipes.plan_facts import FITS
from scratchlm.recipes.recipe import Size, recipe
from scratchlm.recipes.run_config import RunConfig
from scratchlm.recipes.sample_tokenizer import learn_on_sample
from scratchlm.tokenizer.config import TokenizerConfig
from scratchlm.training.memory import StepShape, kernels_serve, step_memory

LOOKED_AT = 1_000_000  # characters of text
MANY_FILES = 2_000  # characters of each file at least, where there are many
PREPARED_BYTES_PER_S = 3e6  # learning a vocabulary and encoding: measured, two Zen 5 cores
ENDING_S = 1.0  # for the last checkpoint and the model folder
VALIDATED_BYTES = 40e3  # of text that tell one checkpoint from another; the model misses them
VALIDATED = (0.02, 0.1)  # share of the text that they are at least, and at most
EVALUATIONS = 6  # in a run
EVALUATED = 0.05  # share of the time that they take
PROBED = 0.02  # share of the time that measuring takes, and in seconds at least and at most:
PROBE_S = (0.1, 2.0)
ROWS_SHARE = 4  # a step takes one row in so many at most of those that the text makes
FEWEST_TOKENS = 0.4  # for each weight: smaller models won where there were fewer, and the rule ends
PATIENCE = 3  # models in a row that are expected to be worse end the measuring
NO_DECAY = 2  # readings by characters up to which weight decay does harm (docs/LOG.md)
READINGS = 20  # of a text beyond which nothing is learned, where no time was asked for
Kind = Literal["auto", "char", "bpe"]


@dataclass(frozen=True)
class TextFacts:
    """What the choices rest on.

    n_bytes        of all files together
    sample         the beginning, or of many files the beginning of each
    n_characters   different ones in the sample
    """

    n_bytes: int
    sample: str
    n_characters: int

    @property
    def bytes_per_character(self) -> float:
        """About 1 for English, 3 for Chinese."""
        return len(self.sample.encode()) / max(1, len(self.sample))


@dataclass(frozen=True)
class Choice:
    """The settings of a run, and what is expected of it.

    reasons    for each choice, in words; none for a run that goes on
    steps      about how many the time allows
    readings   of the text in these steps
    step_s     what one took when it was measured
    bits       expected held-out loss, bits per byte
    """

    config: RunConfig
    reasons: tuple[str, ...] = ()
    steps: int = 0
    readings: float = 0.0
    step_s: float = 0.0
    bits: float = 0.0


def look_at(files: list[SourceFile]) -> TextFacts:
    """Read the beginning of the text and count.

    raises   DataError where there is no text, or none that can be read
    """
    of_each = max(MANY_FILES, LOOKED_AT // max(1, len(files)))
    parts: list[str] = []
    left = LOOKED_AT
    for file in files:
        room = min(of_each, left)
        for document in read_documents([file]):
            parts.append(document.text[:room])
            room -= len(parts[-1])
            left -= len(parts[-1])
            if room <= 0:
                break
        if left <= 0:
            break
    sample = "\n".join(parts)
    if not sample.strip():
        raise DataError("there is no text in what was given: all of it is empty.")
    n_bytes = max(sum(file.n_bytes for file in files), len(sample.encode()))
    return TextFacts(n_bytes, sample, len(set(sample)))


def choose(
    facts: TextFacts,
    device: torch.device,
    seconds: float,
    *,
    tokenizer: Kind = "auto",
    step_seconds: Callable[[RunConfig, torch.device, float], float],
) -> Choice:
    """The settings that are expected to be best after so many seconds of preparing and training.

    step_seconds   measures a step (`probe.step_seconds`): config, device, how long to measure
    """
    return _Chooser(facts, device, seconds, tokenizer, step_seconds).choose()


@dataclass(frozen=True)
class _Candidate:
    """A model that was measured; `n_steps` fill the time."""

    size: Size
    config: RunConfig
    parameters: int  # of the blocks
    step_s: float
    n_steps: float
    bits: float


class _Chooser:
    def __init__(
        self,
        facts: TextFacts,
        device: torch.device,
        seconds: float,
        wanted: Kind,
        step_seconds: Callable[[RunConfig, torch.device, float], float],
    ) -> None:
        self.facts, self.device, self.seconds = facts, device, seconds
        self.measure = step_seconds
        self.dtype, _ = devices.resolve_precision("auto", device)
        self.tokenizer, self.why = _choose_tokenizer(facts, wanted)
        learned = learn_on_sample([facts.sample], self.tokenizer, whole=False)
        by_characters = self.tokenizer.kind == "char"
        self.vocab_size = learned.vocab_size if by_characters else self.tokenizer.vocab_size
        n_bytes = len(facts.sample.encode())
        self.bytes_per_token = n_bytes / len(learned.encode(facts.sample))
        self.difficulty = scaling.difficulty(facts.sample)
        self.tried: list[_Candidate] = []

    def choose(self) -> Choice:
        """Measure the models of the ladder from the smallest on, and take the best."""
        for n_layers, d_model in scaling.LADDER:
            if self.tried and not self._is_worth_it(n_layers, d_model):
                break
            self.tried.append(self._try(n_layers, d_model))
        return self._settle(self._best())

    def _best(self) -> _Candidate:
        return min(self.tried, key=lambda candidate: candidate.bits)

    def _is_worth_it(self, n_layers: int, d_model: int) -> bool:
        """Whether to measure a larger model than the last one."""
        last = self.tried[-1]
        if self._best() not in self.tried[-PATIENCE:]:
            return False
        config = self._config(Size(n_layers, d_model, last.size.seq_len, last.size.rows))
        if not self._fits(config):
            return False
        parameters = _n_block_weights(config)  # the work grows as they do
        tokens = last.n_steps * last.size.step_tokens * last.parameters / parameters
        return tokens >= FEWEST_TOKENS * parameters

    def _try(self, n_layers: int, d_model: int) -> _Candidate:
        least, most = PROBE_S
        probe_s = min(max(PROBED * self.seconds / 5, least), most)
        seq_len = self._seq_len()
        first = scaling.step_tokens_for(0, self.tokenizer.kind)
        size = Size(n_layers, d_model, seq_len, rows=max(1, first // seq_len))
        config = self._config(size)
        step_s = self.measure(config, self.device, probe_s)
        for _ in range(3):  # the batch grows with what is read, which depends on the batch
            n_steps = self._training_s() / step_s
            tokens = scaling.step_tokens_for(n_steps * size.step_tokens, self.tokenizer.kind)
            rows = tokens // size.seq_len
            rows = max(1, min(rows, self._n_tokens() // size.seq_len // ROWS_SHARE))
            step_s *= rows / size.rows
            size = dataclasses.replace(size, rows=rows)
        n_steps = self._training_s() / step_s
        parameters = _n_block_weights(config)
        bits = scaling.expected_bits(
            self.difficulty,
            parameters,
            n_steps * size.step_tokens * self.bytes_per_token,
            self.facts.n_bytes,
        )
        return _Candidate(size, self._config(size), parameters, step_s, n_steps, bits)

    def _training_s(self) -> float:
        """What is left of the time for steps."""
        preparing = self.facts.n_bytes / PREPARED_BYTES_PER_S
        left = self.seconds - min(preparing, self.seconds / 4) - ENDING_S
        return max(0.3 * self.seconds, left * (1 - EVALUATED))

    def _seq_len(self) -> int:
        """Longer rows for longer runs; and no longer than a validation split of a tenth."""
        hours = self.seconds / 3600
        wanted = 256 if hours < 2 else 512 if hours < 12 else 1024
        return max(8, min(wanted, self._n_tokens() // 20))

    def _n_tokens(self) -> int:
        return int(self.facts.n_bytes / self.bytes_per_token)

    def _config(self, size: Size) -> RunConfig:
        config = recipe(size, self.tokenizer)
        return config.replace("model", vocab_size=self.vocab_size)

    def _fits(self, config: RunConfig) -> bool:
        memory = devices.memory_of(self.device)
        step = StepShape(
            config.train.micro_batch,
            config.data.seq_len,
            dtype=self.dtype,
            optimizer="muon",
            device=self.device.type,
            kernels=kernels_serve(self.device.type, self.dtype, compiled=False),
            saving=True,
        )
        return memory is None or step_memory(config.model, step).total <= FITS * memory

    def _settle(self, best: _Candidate) -> Choice:
        """The settings of the best candidate, and why."""
        size, facts = best.size, self.facts
        read = best.n_steps * size.step_tokens * self.bytes_per_token
        readings = read / facts.n_bytes
        steps = max(1, int(best.n_steps))
        batches = int(EVALUATED / EVALUATIONS * 3 * steps)  # a forward pass is a third of a step
        config = best.config.replace("model", vocab_size=0)  # the tokenizer's own
        least, most = VALIDATED
        config = config.replace(
            "prepare",
            val_fraction=max(least, min(most, VALIDATED_BYTES / facts.n_bytes)),
            share=min(1.0, 1.2 * readings) if readings < 0.8 else 1.0,
        )
        config = config.replace("model", dropout=scaling.dropout_for(readings))
        if self.tokenizer.kind == "char" and readings < NO_DECAY:
            config = config.replace("optim", weight_decay=0.0)
        config = config.replace("schedule", warmup=min(config.schedule.warmup, max(1, steps // 10)))
        config = config.replace(
            "train",
            steps=steps,
            compile=steps >= 400 and not ops.available(self.device),  # our kernels are faster
            eval_every=max(10, steps // EVALUATIONS),
            eval_batches=min(200, max(10, batches)),
            sample_every=max(10, steps // 2),
            save_every=max(10, steps // 4),
        )
        reasons = tuple(self._reasons(best, readings))
        return Choice(config, reasons, steps, readings, best.step_s, best.bits)

    def _reasons(self, best: _Candidate, readings: float) -> Iterator[str]:
        facts, size = self.facts, best.size
        dropout = scaling.dropout_for(readings)
        yield (
            f"text: {facts.n_bytes / 1e6:,.1f} MB, {facts.n_characters:,} different characters, "
            f"{facts.bytes_per_character:.1f} bytes each; bzip2 writes it in "
            f"{self.difficulty.compressed:.1f} bits per byte"
        )
        yield f"tokenizer: {self.why}"
        yield (
            f"model: {size.n_layers} layers, {size.d_model} wide, context {size.seq_len} tokens, "
            f"{size.step_tokens:,} tokens in a step: the least loss expected when the time is over"
        )
        yield "measured: " + "; ".join(
            f"{one.size.n_layers} x {one.size.d_model} in {one.step_s * 1e3:,.0f} ms a step, "
            f"{one.n_steps:,.0f} steps, {one.bits:.2f} bits"
            for one in self.tried
        )
        yield (
            f"length: {duration(self.seconds)} in all, about {best.n_steps:,.0f} steps: "
            f"{readings:,.1f} readings of the text"
            + (f"; dropout {dropout} against learning it by heart" if dropout else "")
        )
        rough = facts.n_bytes < scaling.FITTED_BYTES
        yield (
            f"expected: about {best.bits:.2f} bits per byte on text that is held out"
            + (", a rough guess: so small a text is outside of what was measured" if rough else "")
        )


def _n_block_weights(config: RunConfig) -> int:
    with torch.device("meta"):
        model = Transformer(config.model)
    return sum(weight.numel() for weight in model.blocks.parameters())


def _choose_tokenizer(facts: TextFacts, wanted: Kind) -> tuple[TokenizerConfig, str]:
    """The tokenizer's settings, and why."""
    few = facts.n_characters <= scaling.MOST_CHARACTERS  # else new text has new ones
    small = few and facts.n_bytes < scaling.CHARACTERS_BELOW
    if wanted == "char" or (wanted == "auto" and small):
        why = "as you asked" if wanted == "char" else "the text is too small to learn words from"
        return TokenizerConfig(kind="char"), f"characters, {why}"
    size = scaling.vocabulary_for(facts.n_bytes, facts.bytes_per_character)
    why = f"byte-level BPE, {size:,} ids: writes any text, and grows with yours"
    return TokenizerConfig(kind="bpe", vocab_size=size), why
