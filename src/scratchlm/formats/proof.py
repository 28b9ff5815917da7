"""Proof that an exported file says what the model says: read back, and asked the same.

ids       of a text in English, Chinese, code and emoji
logits    at each position of that text, within what rounding to the type may change
greedy    the likeliest next token at 64 positions that the model writes, for types that round
          each number by itself; positions at which the two likeliest all but tie are listed
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from scratchlm.base.errors import DataError
from scratchlm.model.cache import KVCache
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.tokenizer import Tokenizer

TEXT = """\
The quick brown fox can't jump over 1,234 lazy dogs; "naïve" café owners don't mind.
敏捷的棕色狐狸跳过了12只懒狗。春眠不觉晓，处处闻啼鸟！
def add(a: int, b: int) -> int:
    return a + b  # 加法 x = [1, 2, 3]
🙂🚀 👩‍👩‍👧 done…
"""
N_GREEDY = 64
TIE = 1e-3  # logits: a smaller difference between the two best is decided by rounding
MOST_IDS = 192  # of the text, for logits

# The types that round each number by itself
ROUNDED = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}

# What rounding may change: the root of the mean square of the differences of logits, divided by
# the logits' own spread. Two to six times what models of 0.3 and 135 million parameters showed.
TOLERANCES = {"f32": 1e-4, "f16": 5e-3, "bf16": 4e-2, "q8_0": 0.1, "q4_0": 0.9}


@dataclass(frozen=True)
class Check:
    """One question, and what was found."""

    what: str
    passed: bool
    found: str


@dataclass
class Proof:
    """All that was asked of a file."""

    checks: list[Check] = field(default_factory=list)

    def add(self, what: str, passed: bool, found: str) -> None:
        """Write an answer down."""
        self.checks.append(Check(what, passed, found))

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(check.passed for check in self.checks)

    def lines(self) -> list[str]:
        """For people."""
        return [f"{'ok  ' if c.passed else 'FAIL'}  {c.what}: {c.found}" for c in self.checks]

    def as_json(self) -> dict[str, Any]:
        """For files."""
        return {"passed": self.passed, "text": TEXT, "checks": [asdict(c) for c in self.checks]}


class Reader(Protocol):
    """Someone else who reads the file."""

    name: str

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without begin token."""
        ...

    def logits(self, ids: list[int]) -> Tensor:
        """(T,) ids -> (T, V) float32."""
        ...


@dataclass(frozen=True)
class Reference:
    """What the model itself says.

    text      what was asked about, and its ids
    logits    (T, V) at each of the first ids
    written   those ids, and what the model writes behind its first half, taking the likeliest
    n_read    of `written`, how many were read and not written
    choices   (N_GREEDY, V) logits from which it wrote
    """

    text: str
    ids: list[int]
    logits: Tensor
    written: list[int]
    n_read: int
    choices: Tensor


@torch.inference_mode()
def refer(model: Transformer, tokenizer: Tokenizer, kind: str) -> Reference:
    """Ask the model itself; afterwards its weights are rounded as the file's type does it.

    model   in float32 and evaluation mode
    kind    of the file; a type of blocks leaves `choices` empty
    """
    context = model.config.max_seq_len
    text = known_text(tokenizer)
    ids = tokenizer.encode(text)
    read = ids[: min(MOST_IDS, context)]
    logits = model(torch.tensor([read]))[0]
    n_written = min(N_GREEDY, context // 2)
    start = read[: max(1, min(len(read), context - n_written) // 2)]
    if kind not in ROUNDED:
        return Reference(text, ids, logits, start, len(start), torch.empty(0))
    for weight in model.parameters():
        if weight.ndim > 1:  # norms and biases stay as they are
            weight.copy_(weight.to(ROUNDED[kind]))
    written, choices = _continue(model, start, n_written)
    return Reference(text, ids, logits, written, len(start), choices)


def _continue(model: Transformer, ids: list[int], n: int) -> tuple[list[int], Tensor]:
    """`ids` and the n likeliest that follow, and the (n, V) logits that each was chosen from."""
    cache = KVCache(model.config, 1, len(ids) + n)
    newest, written = list(ids), list(ids)
    choices = []
    for _ in range(n):
        logits = model(torch.tensor([newest]), cache=cache)[0, -1]
        cache.advance(len(newest))
        choices.append(logits)
        newest = [int(logits.argmax())]
        written += newest
    return written, torch.stack(choices)


def known_text(tokenizer: Tokenizer) -> str:
    """The part of the text that a tokenizer of characters can write; any other writes all."""

    def is_known(character: str) -> bool:
        try:
            return bool(tokenizer.encode(character, strict=True))
        except DataError:
            return False

    return "".join(filter(is_known, TEXT))


def compare(proof: Proof, reference: Reference, reader: Reader, tolerance: float) -> None:
    """Put the questions to a reader and write down what it says."""
    ids = reader.ids(reference.text)
    same = "equal" if ids == reference.ids else _first_difference(reference.ids, ids)
    proof.add(f"{len(reference.ids)} ids, {reader.name}", ids == reference.ids, same)
    n = len(reference.logits)
    theirs = reader.logits(reference.ids[:n])
    error = relative_error(theirs, reference.logits)
    largest = float((theirs - reference.logits).abs().max())
    found = (
        f"differ by {error:.1e} of their spread ({tolerance:.0e} allowed), {largest:.1e} at most"
    )
    proof.add(f"logits of {n} ids, {reader.name}", error <= tolerance, found)
    if len(reference.choices):
        _compare_greedy(proof, reference, reader)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Root of the mean square of the differences, over the standard deviation of what is right."""
    difference = (found.double() - expected.double()).square().mean().sqrt()
    return float(difference / expected.double().std().clamp(min=1e-12))


def _compare_greedy(proof: Proof, reference: Reference, reader: Reader) -> None:
    n = len(reference.choices)
    first = reference.n_read - 1
    theirs = reader.logits(reference.written[:-1])[first:]
    best = reference.choices.topk(2).values
    ties = (best[:, 0] - best[:, 1] < TIE).tolist()
    wrong = (theirs.argmax(-1) != reference.choices.argmax(-1)).tolist()
    tied = [i for i in range(n) if wrong[i] and ties[i]]
    failed = [i for i in range(n) if wrong[i] and not ties[i]]
    found = "equal" if not failed else f"other ones at {failed}"
    if tied:
        found += f", but for ties at {tied}"
    proof.add(f"{n} greedy tokens, {reader.name}", not failed, found)


def _first_difference(ours: list[int], theirs: list[int]) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
        min(len(ours), len(theirs)),
    )
    return f"other ones from id {at} on: {ours[at : at + 4]} here, {theirs[at : at + 4]} there"
