"""Settings of tokenizer training, and the names of the control tokens that scratchlm gives."""

from dataclasses import dataclass
from typing import Literal, get_args

from scratchlm.base.errors import ConfigError

Kind = Literal[
    "char",
    "regex",
    "whitespace",
    "spacy",
    "rjieba",
    "bpe",
    "sentencepiece-bpe",
    "sentencepiece-unigram",
    "gpt2",
]

END_OF_TEXT = "<|endoftext|>"  # GPT-2's name
BEGIN_OF_TEXT = "<|bos|>"  # nanochat's name
PAD = "<pad>"
UNKNOWN = "<unk>"
REGEX_UNKNOWN = "<|unk|>"  # the name in Raschka's book, chapter 2

LEARNED = ("bpe", "sentencepiece-bpe", "sentencepiece-unigram")  # kinds of a size that is chosen


@dataclass(frozen=True)
class TokenizerConfig:
    """What to train. `gpt2` is not trained: it is OpenAI's vocabulary."""

    kind: Kind = "bpe"  # what a token is; bpe and sentencepiece-* can write any text
    vocab_size: int = 4096  # ids, control tokens included; char and regex take all they meet
    min_frequency: int = 2  # a merge (bpe) or a word (whitespace, spacy, rjieba) is seen so often
    byte_fallback: bool = True  # sentencepiece: unknown characters become bytes, not <unk>
    bos: bool = False  # add a token <|bos|> that begins a document (sentencepiece has <s>)
    eos: bool = False  # add <|endoftext|> to a kind without end: char, whitespace, spacy, rjieba
    max_text_bytes: int = 50_000_000  # bpe, sentencepiece learn from a sample of so many bytes

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(
                f"tokenizer.kind = {self.kind!r} is not one of {', '.join(get_args(Kind))}."
            )
        for name in ("vocab_size", "min_frequency", "max_text_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"tokenizer.{name} = {getattr(self, name)} must be at least 1.")
