"""Records to conversations, and to pairs of a better and a worse answer.

The keys of each record tell what it is; a file may hold several kinds.

    alpaca           instruction, output; input, history, system may be there
    self-instruct    instruction, instances: [{input, output}, ...]
    messages         messages: [{role, content}, ...]; ShareGPT: conversations: [{from, value}, ...]
    pairs of texts   prompt and completion or response; question and answer or response; query and
                     response; instruction and response, with a context; input and output
    preferences      chosen, rejected: answers to a prompt (question, instruction, messages), or
                     whole conversations with the same beginning, also as texts of "Human:" and
                     "Assistant:"

Where a text stands, there may be a list of messages instead (TRL's "conversational" sets). Other
keys are left alone.

A user's message that was an instruction with an input keeps both, as the keys `instruction` and
`input` beside `role` and `content`, so that a template can write them as alpaca does. Its content
is the instruction, and behind an empty line the input, if there is one.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from scratchlm.base.log import say
from scratchlm.examples.messages import Message, check_turns, messages_of, text_of, transcript
from scratchlm.examples.records import Record, collect, read_records
from scratchlm.examples.skipped import BadRecord, Skipped

_LISTS = ("messages", "conversations", "conversation")
_PAIRS = (
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("input", "output"),
)
_ASKED = ("prompt", "instruction", "question", "query", "input")
_WITH_CONTEXT = ("instruction", "question", "query")  # "input" or "context" may belong to these
_SYSTEM = ("system", "system_prompt")
_ALPACA_STYLE = re.compile(  # of Stanford's alpaca, and of what was made of it
    r"Below is an instruction that describes a task(?:, paired with an input that provides further "
    r"context)?\. Write a response that appropriately completes the request\.\n\n"
    r"### Instruction:\n(.*?)(?:\n\n### Input:\n(.*?))?\n\n### Response:\n?",
    re.DOTALL,
)
_STYLED = " in alpaca's style, which was taken off"

One = TypeVar("One", "Conversation", "Preference")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages from the user, the assistant and perhaps a system or tools, in turns.

    messages   {"role", "content", ...}; one at least is the assistant's
    place      of the record
    form       what its keys said it is: "alpaca", "prompt/completion", ...; "": not from a record
    n_prompt   of a prompt with its completion: the messages of the prompt, on which there is no
               loss, whoever they are from; 0 otherwise
    """

    messages: tuple[Message, ...]
    place: str
    form: str = ""
    n_prompt: int = 0


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, of which the first is better.

    prompt     messages, of which the last is the user's or a tool's
    chosen     messages that follow it; the first is the assistant's
    rejected   likewise
    """

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    place: str
    form: str = ""


def read_conversations(
    paths: Sequence[Path | str], *, skip_bad: bool = False, system: str = ""
) -> list[Conversation]:
    """The conversations in files, and in the folders below them.

    skip_bad   leave bad records out, and say how many and why
    system     system message for conversations that have none; "": none
    raises     BadRecord naming file and line; DataError, MissingExtraError (`read_records`)
    """
    return _read(paths, lambda record: conversations_of(record, system), skip_bad, "conversations")


def read_preferences(
    paths: Sequence[Path | str], *, skip_bad: bool = False, system: str = ""
) -> list[Preference]:
    """The pairs of a better and a worse answer; otherwise as `read_conversations`."""
    return _read(paths, lambda record: [preference_of(record, system)], skip_bad, "preferences")


def _read(
    paths: Sequence[Path | str], make: Callable[[Record], list[One]], skip_bad: bool, what: str
) -> list[One]:
    skipped = Skipped() if skip_bad else None
    found = list(collect(read_records(paths, skipped=skipped), make, skipped))
    if skipped is not None:
        skipped.report(len(found), what)
    forms = Counter(one.form for one in found)
    counts = (f"{n:,} {form}" for form, n in sorted(forms.items(), key=lambda one: -one[1]))
    say(f"{len(found):,} {what}: {', '.join(counts)}.")
    return found


def conversations_of(record: Record, system: str = "") -> list[Conversation]:
    """What a record holds: one conversation, or of self-instruct one for each instance.

    raises   BadRecord
    """
    values = {key: value for key, value in record.values.items() if value is not None}
    place = record.place
    listed = next((key for key in _LISTS if key in values), None)
    if listed:
        messages = messages_of(values[listed], listed, place)
        return [_conversation(messages, values, place, listed, system)]
    if "instruction" in values and "instances" in values:
        return _self_instruct(values, place, system)
    asked, answered = next(
        (pair for pair in _PAIRS if pair[0] in values and pair[1] in values), (None, None)
    )
    if asked is None or answered is None:
        raise _unknown(record.values, place)
    prompt, style = _prompt(values, asked, place)
    completion = _answer(values[answered], answered, place)
    form = "alpaca" if asked == "instruction" and answered == "output" else f"{asked}/{answered}"
    n_prompt = len(prompt) if asked == "prompt" else 0
    messages = prompt + completion
    return [_conversation(messages, values, place, form + style, system, n_prompt)]


def preference_of(record: Record, system: str = "") -> Preference:
    """What a record holds.

    raises   BadRecord
    """
    values = {key: value for key, value in record.values.items() if value is not None}
    place = record.place
    if "chosen" not in values or "rejected" not in values:
        raise _unknown(record.values, place, "'chosen' and 'rejected'")
    whole = not any(key in values for key in (*_LISTS, *_ASKED))
    chosen = _answer(values["chosen"], "chosen", place, whole=whole)
    rejected = _answer(values["rejected"], "rejected", place, whole=whole)
    if chosen == rejected:
        raise BadRecord(place, "chosen equals rejected", "'chosen' and 'rejected' are the same")
    if chosen[0]["role"] == "assistant":
        prompt, form = _given_prompt(values, place)
    else:
        prompt, chosen, rejected = _shared_beginning(chosen, rejected, place)
        form = "chosen/rejected"
        _check_said(values, prompt, place)
    prompt = _with_system(prompt, values, place, system)
    for answer in (chosen, rejected):
        check_turns(prompt + answer, place)
    return Preference(tuple(prompt), tuple(chosen), tuple(rejected), place, form)


def _conversation(
    messages: list[Message],
    values: dict[str, Any],
    place: str,
    form: str,
    system: str,
    n_prompt: int = 0,
) -> Conversation:
    whole = _with_system(messages, values, place, system)
    check_turns(whole, place)
    added = len(whole) - len(messages)
    return Conversation(tuple(whole), place, form, n_prompt + added if n_prompt else 0)


def _with_system(
    messages: list[Message], values: dict[str, Any], place: str, default: str
) -> list[Message]:
    """The messages behind the system message that the record has beside them, or the default."""
    key = next((key for key in _SYSTEM if key in values), None)
    own = text_of(values[key], repr(key), place) if key else ""
    first = messages[0]
    if first["role"] != "system":
        content = own or default
        return [{"role": "system", "content": content}, *messages] if content else messages
    if own and own != first["content"]:
        detail = f"the key {key!r} and the first message are two system messages"
        raise BadRecord(place, "two system messages", detail)
    return messages


def _self_instruct(values: dict[str, Any], place: str, system: str) -> list[Conversation]:
    instances = values["instances"]
    if not isinstance(instances, list) or not all(isinstance(one, dict) for one in instances):
        raise BadRecord(place, "no instances", "the key 'instances' holds no list of objects")
    if not instances:
        raise BadRecord(place, "empty answer", "the key 'instances' is an empty list")
    found = []
    for one in instances:
        both = {"instruction": values["instruction"], **one}
        if "output" not in one:
            raise _unknown(both, place)
        messages = _prompt(both, "instruction", place)[0] + _answer(one["output"], "output", place)
        found.append(_conversation(messages, values, place, "self-instruct", system))
    return found


def _prompt(values: dict[str, Any], key: str, place: str) -> tuple[list[Message], str]:
    """The messages in front of the answer, and what the form is to say of them."""
    if isinstance(values[key], list):
        return messages_of(values[key], key, place), ""
    text = _not_empty(values[key], key, place, "empty question")
    context = next((name for name in ("input", "context") if values.get(name)), None)
    if key in _WITH_CONTEXT:
        more = text_of(values[context], f"the key {context!r}", place) if context else ""
        return [*_history(values, place), _instruction(text, more)], ""
    if match := _ALPACA_STYLE.fullmatch(text):
        text = _not_empty(match[1], key, place, "empty question")
        return [_instruction(text, match[2] or "")], _STYLED
    talk = transcript(text)
    if talk is None:
        return [{"role": "user", "content": text}], ""
    if not talk[-1]["content"].strip():  # "Assistant:", whom the answer follows
        del talk[-1]
    return messages_of(talk, key, place), ""  # none may be empty


def _instruction(instruction: str, context: str) -> Message:
    content = f"{instruction}\n\n{context}" if context.strip() else instruction
    return {"role": "user", "content": content, "instruction": instruction, "input": context}


def _history(values: dict[str, Any], place: str) -> list[Message]:
    """Earlier turns of alpaca's records, [[question, answer], ...]."""
    history = values.get("history") or []
    if not isinstance(history, list) or not all(
        isinstance(turn, list) and len(turn) == 2 for turn in history
    ):
        detail = f"the key 'history' holds {history!r:.40}, no pairs of question and answer"
        raise BadRecord(place, "no history", detail)
    texts = [
        _not_empty(text, "history", place, "empty message") for turn in history for text in turn
    ]
    roles = ("user", "assistant") * len(history)
    return [{"role": role, "content": text} for role, text in zip(roles, texts)]


def _answer(value: Any, key: str, place: str, *, whole: bool = False) -> list[Message]:
    """The messages of an answer, or of a whole conversation.

    whole   a text may be the transcript of one
    """
    if isinstance(value, list | dict):
        return messages_of(value, key, place)
    text = _not_empty(value, key, place, "empty answer")
    talk = transcript(text) if whole else None
    if talk is None:
        return [{"role": "assistant", "content": text}]
    return messages_of(talk, key, place)  # none may be empty


def _not_empty(value: Any, key: str, place: str, reason: str) -> str:
    text = text_of(value, f"the key {key!r}", place)
    if not text.strip():
        raise BadRecord(place, reason, f"the key {key!r} is empty")
    return text


def _given_prompt(values: dict[str, Any], place: str) -> tuple[list[Message], str]:
    listed = next((key for key in _LISTS if key in values), None)
    if listed:
        return messages_of(values[listed], listed, place), f"{listed}/chosen/rejected"
    asked = next((key for key in _ASKED if key in values), None)
    if asked is None:
        raise _unknown(values, place, "a prompt, or whole conversations in both")
    prompt, style = _prompt(values, asked, place)
    return prompt, f"{asked}/chosen/rejected{style}"


def _shared_beginning(
    one: list[Message], other: list[Message], place: str
) -> tuple[list[Message], list[Message], list[Message]]:
    n = next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    prompt, chosen, rejected = one[:n], one[n:], other[n:]
    for answer in (chosen, rejected):
        if not prompt or not answer or answer[0]["role"] != "assistant":
            raise BadRecord(
                place,
                "no shared prompt",
                "'chosen' and 'rejected' are whole conversations, and must be the same up to an "
                f"answer of the assistant; they are in {n} messages",
            )
    return prompt, chosen, rejected


def _check_said(values: dict[str, Any], prompt: list[Message], place: str) -> None:
    """A prompt that stands beside whole conversations must be in them."""
    said = values.get("prompt", "")
    if isinstance(said, str):
        fits = not said or any(said.strip() == message["content"].strip() for message in prompt)
    else:
        fits = messages_of(said, "prompt", place) == prompt
    if not fits:
        detail = "'prompt' is not how 'chosen' and 'rejected' begin"
        raise BadRecord(place, "another prompt", detail)


def _unknown(values: dict[str, Any], place: str, missing: str = "") -> BadRecord:
    keys = ", ".join(f"{k!r} (null)" if v is None else repr(k) for k, v in values.items()) or "none"
    if missing:
        return BadRecord(
            place,
            "no preference",
            f"the record has the keys {keys}, and lacks {missing}. Known preferences are 'chosen' "
            "and 'rejected' with 'prompt', 'instruction', 'question', 'messages' or "
            "'conversations', or as whole conversations",
        )
    pairs = "; ".join(f"{asked!r} and {answered!r}" for asked, answered in _PAIRS)
    hint = ": a preference, which is for dpo" if {"chosen", "rejected"} <= values.keys() else ""
    return BadRecord(
        place,
        "no known format",
        f"no known format has the keys {keys}{hint}. Known are 'messages'; 'conversations'; "
        f"{pairs}",
    )
