"""The process inside of the sandbox: one document after the other, each within its limits.

It is told a document on its standard input and answers on its standard output, each message with
its length in front. What libraries print goes nowhere.
"""

import json
import os
import re
import signal
import struct
import sys
from typing import Any, BinaryIO

from scratchlm.base.confine import limit_memory, limit_time, own_stream
from scratchlm.base.errors import MissingExtraError
from scratchlm.extraction.extract import extract
from scratchlm.extraction.html import forget
from scratchlm.extraction.result import Hints, Unreadable

REQUEST = struct.Struct("<IQ")  # bytes of the question in JSON, and of the document
ANSWER = struct.Struct("<Q")  # bytes of the answer in JSON
READY = b"ready"
OUT_OF_MEMORY = 77  # exit status
_FORGET = 1 << 25
_DETAIL = 200  # characters


def serve(memory_mb: int, time_limit: float, most_text: int) -> None:
    """Answer until the input ends.

    memory_mb    that the process may map; one that wants more ends with OUT_OF_MEMORY
    time_limit   seconds of processor time for each document; then SIGPROF ends the process
    most_text    bytes of an answer; a longer one is refused
    """
    limit_memory(memory_mb << 20)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes our input
    sys.modules["py3langid"] = None  # type: ignore[assignment]  # trafilatura's, for what we never
    # ask; with numpy, which it brings, each core of the machine would take 8 MB of the limit
    with own_stream(0, "rb") as requests, own_stream(1, "wb") as answers:
        _send(answers, READY)
        os.dup2(1, 2)
        try:
            held = 0  # bytes of pages, of which caches may hold lines
            while head := requests.read(REQUEST.size):
                n_question, n_body = REQUEST.unpack(head)
                question = json.loads(requests.read(n_question))
                body = requests.read(n_body)
                limit_time(time_limit)
                answer = json.dumps(_answer(question, body)).encode()
                limit_time(0)
                if len(answer) > most_text:
                    answer = json.dumps({"reason": "too large", "detail": "its text"}).encode()
                _send(answers, answer)
                held += n_body if question["kind"] == "html" else 0
                if held > _FORGET:
                    forget()
                    held = 0
        except MemoryError:
            os._exit(OUT_OF_MEMORY)


def _send(answers: BinaryIO, answer: bytes) -> None:
    answers.write(ANSWER.pack(len(answer)) + answer)
    answers.flush()


def _answer(question: dict[str, Any], body: bytes) -> dict[str, Any]:
    try:
        found = extract(question["kind"], body, Hints(**question["hints"]), question["mode"])
        return {"text": found.text, "meta": found.meta}
    except Unreadable as bad:
        return {"reason": bad.reason, "detail": bad.detail}
    except MissingExtraError as missing:
        return {"missing": missing.__reduce__()[1]}
    except MemoryError:
        raise
    except Exception as bad:  # a library's own fault, of which hostile documents find many
        # addresses of objects differ from run to run
        detail = re.sub("0x[0-9a-f]+", "0x", f"{type(bad).__name__}: {bad}")[:_DETAIL]
        return {"reason": f"broken {question['kind']}", "detail": detail}
