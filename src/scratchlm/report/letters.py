"""How wide letters are: Han and their like take twice the room of Latin ones."""

import unicodedata


def is_wide(letter: str) -> bool:
    """Whether a letter is as wide as a Han character."""
    return unicodedata.east_asian_width(letter) in "WF"


def cells(text: str) -> int:
    """The columns that a line takes in a terminal; marks on a letter take none of their own."""
    return sum(
        0 if unicodedata.category(letter) in ("Mn", "Me", "Cf") else 1 + is_wide(letter)
        for letter in text
    )
