"""A request, and each of its samples on the way from ids to text (stage 11)."""

import secrets
from collections.abc import Sequence as Ids
from dataclasses import dataclass, field, replace
from typing import Literal

from scratchlm.generation.sampling import Sampling, generator_of
from scratchlm.tokenizer.tokenizer import Tokenizer

Finish = Literal["stop", "length"]  # an end token or stop string came; max_new_tokens were written


@dataclass(frozen=True, slots=True)
class Token:
    """One token that was written.

    id       in [0, V)
    text     what has become certain with it: "" inside a character or a possible stop string
    logprob  natural logarithm of its probability by the model, before temperature and filters
    finish   why the text ends here, or None while it goes on
    sample   which of the request's samples it belongs to, counted from 0
    """

    id: int
    text: str
    logprob: float
    finish: Finish | None
    sample: int


@dataclass(frozen=True)
class Request:
    """A prompt to be continued n times.

    prompt_ids  at least one id
    ends        ids that end the text, beside the tokenizer's end token
    window      a prompt longer than the context is cut to its last part instead of refused
    """

    prompt_ids: Ids[int]
    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1
    ends: tuple[int, ...] = ()
    window: bool = False


class StopGuard:
    """Lets text through up to the first stop string, which may come in pieces."""

    def __init__(self, stop: Ids[str]) -> None:
        self._stop = stop
        self._held = ""  # may be the beginning of a stop string
        self.found = False

    def push(self, text: str) -> str:
        """The text that surely stands before any stop string."""
        self._held += text
        places = [at for stop in self._stop if (at := self._held.find(stop)) >= 0]
        self.found = bool(places)
        certain = min(places) if places else len(self._held) - self._possible()
        text, self._held = self._held[:certain], "" if places else self._held[certain:]
        return text

    def flush(self) -> str:
        """What was held back: the text ended before it became a stop string."""
        text, self._held = self._held, ""
        return text

    def _possible(self) -> int:
        """How many of the last characters could begin a stop string."""
        longest = 0
        for stop in self._stop:
            for n in range(min(len(stop) - 1, len(self._held)), longest, -1):
                if self._held.endswith(stop[:n]):
                    longest = n
                    break
        return longest


class Sequence:
    """One sample of a request: its ids so far, its text, its source of chance.

    number   of the request that it belongs to
    ids      prompt and completion
    start    where the part of `ids` begins that the model has before it
    left     tokens that may still be written
    """

    def __init__(
        self, number: int, sample: int, request: Request, seed: int, tokenizer: Tokenizer | None
    ) -> None:
        self.number = number
        self.sample = sample
        self.ids = list(request.prompt_ids)
        self.start = 0
        self.left = request.sampling.max_new_tokens
        self.finish: Finish | None = None
        # Sequences with equal rules are sampled together, whatever their seeds and ends.
        self.rule = replace(request.sampling, max_new_tokens=1, seed=None, stop=())
        self.generator = generator_of(seed, sample)
        self._guard = StopGuard(request.sampling.stop)
        self._ends = {*request.ends, None if tokenizer is None else tokenizer.eos_id}
        self._decoder = None if tokenizer is None else tokenizer.stream()
        self._silent = set() if tokenizer is None else control_ids(tokenizer)
        for token in self.ids:
            self._decode(token)  # so that the first new token knows what it stands behind

    @property
    def window(self) -> list[int]:
        """The ids that the model has before it; the last one is yet to be read."""
        return self.ids[self.start :]

    @property
    def n_window(self) -> int:
        """How many ids the model has before it."""
        return len(self.ids) - self.start

    def take(self, token: int, logprob: float) -> Token:
        """Append a token; sets `finish` when it is the last one."""
        self.ids.append(token)
        self.left -= 1
        ends = token in self._ends
        text = self._guard.push(self._decode(token))
        if not self._guard.found and (ends or not self.left):
            text += self._guard.push(self._decoder.flush() if self._decoder else "")
            text += "" if self._guard.found else self._guard.flush()
        if ends or self._guard.found:
            self.finish = "stop"
        elif not self.left:
            self.finish = "length"
        return Token(token, text, logprob, self.finish, self.sample)

    def _decode(self, token: int) -> str:
        if self._decoder is None or token in self._silent:
            return ""
        return self._decoder.push(token)


def sequences_of(request: Request, number: int, tokenizer: Tokenizer | None) -> list[Sequence]:
    """The n samples of a request; without a seed, one is drawn for all of them."""
    seed = request.sampling.seed
    if seed is None:
        seed = secrets.randbits(63)
    return [Sequence(number, i, request, seed, tokenizer) for i in range(request.n)]


def control_ids(tokenizer: Tokenizer) -> set[int]:
    """Ids that are signals, not text; the unknown token is shown, for something stood there."""
    return set(tokenizer.special_tokens.values()) - {tokenizer.unk_id}
