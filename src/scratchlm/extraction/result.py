"""What an extractor is told, what it answers, and how it says that there is nothing."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Hints:
    """What is known of a document besides its bytes; "" where nobody knows.

    charset   that the server named
    day       YYYY-MM-DD on which it was fetched: what it says of later days is no date of its own
    """

    url: str = ""
    charset: str = ""
    day: str = ""


@dataclass(frozen=True, slots=True)
class Extracted:
    """The text of a document, never empty, and what it says of itself: title, date, language."""

    text: str
    meta: dict[str, str] = field(default_factory=dict)


class Unreadable(Exception):
    """A document that gives no text.

    reason   one of few words, to be counted: "no text", "encrypted", "broken pdf"
    detail   what a person wants to know of this very document
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason} ({detail})" if detail else reason)
        self.reason, self.detail = reason, detail


_MOST = 500  # characters of a title


def facts(**values: str | None) -> dict[str, str]:
    """What is known, on one line each and not endless; what is not is left out."""
    short = {name: " ".join((value or "").split())[:_MOST] for name, value in values.items()}
    return {name: value for name, value in short.items() if value}
