"""One class for every kind of tokenizer: text <-> ids, one tokenizer.json (stage 4)."""

import hashlib
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np
from tokenizers import Tokenizer as Backend

from scratchlm.base.errors import CheckpointError, ConfigError, DataError
from scratchlm.base.files import read_json, write_json, write_text, write_whole
from scratchlm.base.log import say, warn
from scratchlm.native import bpe
from scratchlm.tokenizer.added import with_added
from scratchlm.tokenizer.chat_file import TEMPLATE, read_template
from scratchlm.tokenizer.config import Kind
from scratchlm.tokenizer.definition import (
    Definition,
    build_backend,
    canonical_text,
    no_panic,
    read_definition,
)
from scratchlm.tokenizer.fast import encoder_of
from scratchlm.tokenizer.offsets import Encoded, by_library, by_names, find_pieces
from scratchlm.tokenizer.rules import (
    drops_first_space,
    first_token,
    markers_as_text,
    pieces_of,
    without_prefix,
)
from scratchlm.tokenizer.stream import StreamDecoder
from scratchlm.tokenizer.surrogates import refuse_surrogates
from scratchlm.tokenizer.words import SEGMENTERS

_FILE = "tokenizer.json"
_CONFIG_FILE = "tokenizer_config.json"
_COMPANIONS = ("tokenizer.model", "tokenizer.vocab")  # SentencePiece's own files
_LONG = 1 << 19  # characters that take the library as long as `fast` takes to get ready: .2 s


class Tokenizer:
    """Text <-> ids by the rules of one tokenizer.json.

    kind             see TokenizerConfig.kind; "foreign" for a tokenizer made by another tool
    vocab_size       ids are in [0, vocab_size)
    special_tokens   control tokens by name; text never encodes to one unless it is allowed
    bos_id, eos_id, pad_id, unk_id    None where the tokenizer has no such token
    begins           its maker puts bos before every text: prompts begin with it; `encode` leaves
                     that to its caller
    chat_template    Jinja, how a conversation is written (`ChatTemplate`); None: not at all
    """

    def __init__(
        self,
        definition: Definition,
        config: dict[str, Any],
        companions: dict[str, bytes] | None = None,
        source: str = _FILE,
    ) -> None:
        """Take a checked definition and the contents of tokenizer_config.json.

        companions   further files to keep beside tokenizer.json, by name
        source       what messages call the definition, a path where there is one
        """
        self._definition = definition
        self._config = config
        self._companions = companions or {}
        self._source = source
        self._backends: dict[tuple[bool, bool], Backend] = {}
        vocab = self._backend(allowed_special=False, continues=False).get_vocab()
        self._has_prefix = without_prefix(definition) != definition
        self.kind: str = config.get("scratchlm", {}).get("kind", "foreign")
        if self.kind not in (*get_args(Kind), "foreign"):
            raise CheckpointError(
                f"{source} is a tokenizer of kind {self.kind!r}, which this version of scratchlm "
                "does not know. Use the version that wrote it."
            )
        self._segmenter = SEGMENTERS.get(self.kind)
        self._drops_space = drops_first_space(definition)
        self._pieces = pieces_of(definition, vocab, source, words=self._segmenter is not None)
        self.vocab_size = len(self._pieces)
        added = [token["content"] for token in definition.get("added_tokens") or []]
        self.special_tokens = {name: vocab[name] for name in added if not name.isspace()}
        self._words = {word: i for word, i in vocab.items() if word not in self.special_tokens}
        self.bos_id = self._role("bos_token", vocab)
        self.eos_id = self._role("eos_token", vocab)
        self.pad_id = self._role("pad_token", vocab)
        self.unk_id = self._role("unk_token", vocab)
        begin = first_token(definition)
        self.begins = begin is not None and vocab.get(begin) == self.bos_id
        template = self._companions.get(TEMPLATE)
        self.chat_template = None if template is None else template.decode()

    @property
    def definition(self) -> Definition:
        """What tokenizer.json holds; not to be changed."""
        return self._definition

    @property
    def facts(self) -> dict[str, str]:
        """What scratchlm knows of it: "kind", and "pre_tokenizer", llama.cpp's name of its cuts."""
        facts: dict[str, str] = self._config.get("scratchlm", {})
        return facts

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the tokenizer.json that `save` writes, in hexadecimal."""
        return hashlib.sha256(self._text.encode()).hexdigest()

    @cached_property
    def _text(self) -> str:
        return canonical_text(self._definition)

    def __repr__(self) -> str:
        return f"Tokenizer({self.kind}, {self.vocab_size} ids, {self.hash[:8]})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer, (self._definition, self._config, self._companions, self._source)

    @classmethod
    def load(cls, path: Path | str) -> "Tokenizer":
        """Open a tokenizer.json, or the folder (any Hugging Face model folder) that holds one.

        raises   CheckpointError naming the file that is missing, damaged or not understood
        """
        path = Path(path)
        file = path / _FILE if path.is_dir() else path
        definition = read_definition(file)
        config_file = file.with_name(_CONFIG_FILE)
        config = read_json(config_file, CheckpointError) if config_file.is_file() else {}
        if not isinstance(config, dict) or not isinstance(config.get("scratchlm", {}), dict):
            raise CheckpointError(f"{config_file} is not a tokenizer_config.json: it was damaged.")
        beside = [file.with_name(name) for name in _COMPANIONS]
        companions = {other.name: other.read_bytes() for other in beside if other.is_file()}
        template = read_template(file.parent)
        if template is not None:  # from here on it is a file, wherever it was
            companions[TEMPLATE] = template.encode()
            if isinstance(config.get("chat_template"), str):
                config = {key: value for key, value in config.items() if key != "chat_template"}
        return cls(definition, config, companions, str(file))

    def save(self, folder: Path | str) -> None:
        """Write tokenizer.json, tokenizer_config.json, a chat template, and the companions."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / _FILE, self._text)
        write_json(folder / _CONFIG_FILE, self._config)
        for name, content in self._companions.items():
            with write_whole(folder / name) as file:
                file.write(content)
        if note := self._config.get("scratchlm", {}).get("note"):
            say(f"{folder / _FILE}: {note}")

    def with_special_tokens(self, names: Sequence[str]) -> "Tokenizer":
        """A tokenizer that has these control tokens too, behind all ids that there are.

        Names that are control tokens already are left as they are.

        raises   ConfigError for a name that is an ordinary token, or cannot be one
        """
        new = [name for name in dict.fromkeys(names) if name not in self.special_tokens]
        if not new:
            return self
        definition = with_added(self._definition, new, self.vocab_size, self._words)
        more = Tokenizer(definition, self._config, self._companions, self._source)
        expected = range(self.vocab_size, self.vocab_size + len(new))
        if [more.special_tokens[name] for name in new] != list(expected):
            raise ConfigError(
                f"{self._source} has ids without a token, so the library gives new tokens ids that "
                "are taken. Use another tokenizer."
            )
        return more

    def with_chat_template(self, source: str) -> "Tokenizer":
        """The same tokenizer with a chat template, which `save` writes beside it."""
        companions = {**self._companions, TEMPLATE: source.encode()}
        return Tokenizer(self._definition, self._config, companions, self._source)

    def encode(
        self,
        text: str,
        *,
        bos: bool = False,
        eos: bool = False,
        allowed_special: bool = False,
        continues: bool = False,
        strict: bool = False,
    ) -> list[int]:
        """The ids of a text.

        bos, eos          put the beginning or end token around it
        allowed_special   names of control tokens in the text become their ids, not plain text
        continues         the text goes on from an earlier piece of the same document, cut after
                          a line end: SentencePiece then puts no space before it
        strict            text outside the vocabulary is an error instead of the unknown token

        raises   DataError for a lone surrogate, a character that a character tokenizer does not
                 have, an unknown word if strict; ConfigError for bos or eos without such a token
        """
        refuse_surrogates(text)
        if self._segmenter:
            special = self.special_tokens if allowed_special else {}
            tokens, _ = by_names(text, (), special, lambda part: (self._look_up(part, strict), []))
        else:
            (tokens,) = self._subwords([text], allowed_special, continues)
            if strict and self.unk_id in tokens:
                self._refuse_unknown(text, tokens.index(self.unk_id), allowed_special, continues)
        begin = [self._required(self.bos_id, "bos")] if bos else []
        end = [self._required(self.eos_id, "eos")] if eos else []
        return begin + tokens + end

    def offsets(
        self, text: str, *, allowed_special: bool = False, plain: Collection[int] = ()
    ) -> Encoded:
        """The ids of a text as `encode` gives them, and the characters that each comes from.

        plain     numbers of characters that are part of no control token, whatever they spell
        returns   ids, and for each (start, end): several ids of one character have the same one

        raises    DataError as `encode`
        """
        refuse_surrogates(text)
        special = self.special_tokens if allowed_special else {}
        if self._segmenter:
            return by_names(text, plain, special, self._look_up_offsets)
        if not special:
            return self._subword_offsets(text, False, False)
        return by_library(text, plain, set(special.values()), self._subword_offsets)

    def _subword_offsets(self, text: str, allowed_special: bool, continues: bool) -> Encoded:
        backend = self._backend(allowed_special, continues)
        with no_panic(DataError, f"{self._source} failed to encode the text"):
            encoding = backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def _look_up_offsets(self, text: str) -> Encoded:
        assert self._segmenter
        return self._look_up(text, strict=False), find_pieces(self._segmenter.split(text), text)

    def encode_batch(
        self,
        texts: Sequence[str],
        *,
        allowed_special: bool = False,
        continues: Sequence[bool] | None = None,
    ) -> list[list[int]]:
        """The ids of many texts; `continues` as in `encode`, for each text."""
        if self._segmenter:
            return [self.encode(text, allowed_special=allowed_special) for text in texts]
        for text in texts:
            refuse_surrogates(text)
        flags = continues or [False] * len(texts)
        tokens: list[list[int]] = [[]] * len(texts)
        for flag in set(flags):
            chosen = [i for i, other in enumerate(flags) if other == flag]
            encoded = self._subwords([texts[i] for i in chosen], allowed_special, flag)
            for i, row in zip(chosen, encoded, strict=True):
                tokens[i] = row
        return tokens

    @cached_property
    def fast(self) -> bpe.Encoder | None:
        """Compiled code that gives the same ids 20 to 50 times as fast; None: it cannot."""
        return None if self._segmenter else encoder_of(self._definition)

    def encode_bytes(self, text: bytes, *, continues: bool = False) -> np.ndarray:
        """The ids of a text in valid UTF-8, (n,) uint32: the quickest way for much text.

        continues   as in `encode`
        """
        if self.fast:
            return self.fast.encode(text)
        (tokens,) = self.encode_batch([text.decode()], continues=[continues])
        return np.asarray(tokens, dtype=np.uint32)

    def decode(
        self, ids: Sequence[int], *, skip_special: bool = False, continues: bool = False
    ) -> str:
        """The text of ids; bytes that form no character become U+FFFD.

        skip_special   leave control tokens out
        continues      the ids follow others: keep the leading space that SentencePiece else drops
        raises         DataError for an id outside the vocabulary
        """
        control = set(self.special_tokens.values()) if skip_special else set()
        stream = self.stream(continues=continues)
        return "".join(stream.push(i) for i in ids if i not in control) + stream.flush()

    def stream(self, *, continues: bool = False) -> StreamDecoder:
        """Decode ids one by one; `continues` as in `decode`."""
        gap = self._segmenter.gap if self._segmenter else None
        return StreamDecoder(self._pieces, gap, drop_space=self._drops_space and not continues)

    def joint(self) -> list[int]:
        """What stands between two documents: the end token, or an empty line (characters).

        Empty for a tokenizer that has neither an end token nor the line end.
        """
        if self.eos_id is not None:
            return [self.eos_id]
        return [self._words["\n"]] * 2 if self.kind == "char" and "\n" in self._words else []

    def byte_lengths(self) -> np.ndarray:
        """(vocab_size,) int64: UTF-8 bytes that each id stands for, 0 for control tokens."""
        lengths = np.array([len(piece) for piece in self._pieces], dtype=np.int64)
        lengths[list(self.special_tokens.values())] = 0
        return lengths

    def pieces(self) -> list[bytes]:
        """The bytes of each id: a part of a character where a character has several ids."""
        return list(self._pieces)

    def _subwords(
        self, texts: list[str], allowed_special: bool, continues: bool
    ) -> list[list[int]]:
        marked = allowed_special and self.special_tokens
        if not marked and sum(map(len, texts)) >= _LONG and self.fast:
            return [self.fast.encode(text.encode()).tolist() for text in texts]
        backend = self._backend(allowed_special, continues)
        with no_panic(DataError, f"{self._source} failed to encode the text"):
            # "fast" leaves out the offsets in the text: 1.6 times the speed for one long text
            encodings = backend.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _refuse_unknown(
        self, text: str, nth: int, allowed_special: bool, continues: bool
    ) -> NoReturn:
        """Say what in the text became the n-th token, the unknown one."""
        backend = self._backend(allowed_special, continues)
        start, end = backend.encode(text, add_special_tokens=False).offsets[nth]
        self._refuse(text[start:end], start)

    def _look_up(self, text: str, strict: bool) -> list[int]:
        """Encode characters or words by the vocabulary alone."""
        assert self._segmenter
        words = self._segmenter.split(text)
        if self.unk_id is not None and not strict:
            unknown, find = self.unk_id, self._words.get
            return [find(word, unknown) for word in words]
        try:
            return [self._words[word] for word in words]
        except KeyError as missing:
            word = missing.args[0]
            self._refuse(word, text.index(word))

    def _refuse(self, piece: str, position: int) -> NoReturn:
        code = f" (U+{ord(piece):04X})" if len(piece) == 1 else ""
        raise DataError(
            f"{piece!r}{code} at position {position} of the text is not in the vocabulary of this "
            f"{self.kind} tokenizer ({self.vocab_size} ids). Train it on text that has it, or use "
            "a kind that writes any text, such as bpe."
        )

    def _backend(self, allowed_special: bool, continues: bool) -> Backend:
        """The library's tokenizer for these two switches, which one object cannot turn."""
        key = allowed_special, continues and self._has_prefix
        if key not in self._backends:
            definition = self._definition if allowed_special else markers_as_text(self._definition)
            definition = without_prefix(definition) if continues else definition
            backend = build_backend(definition, self._source)
            backend.encode_special_tokens = not allowed_special
            backend.post_processor = None  # it would take white space out of offsets
            self._backends[key] = backend
        return self._backends[key]

    def _role(self, name: str, vocab: dict[str, int]) -> int | None:
        value = self._config.get(name)
        token = value.get("content") if isinstance(value, dict) else value
        if token is None:
            return None
        if not isinstance(token, str) or token not in vocab:
            warn(
                f"{_CONFIG_FILE} names {token!r} as {name}, but {self._source} has no such token: "
                "it is left out."
            )
            return None
        return vocab[token]

    def _required(self, token: int | None, name: str) -> int:
        if token is None:
            raise ConfigError(
                f"{name} = True, but this {self.kind} tokenizer has no such token. "
                f"Train one with tokenizer.{name} = true."
            )
        return token
