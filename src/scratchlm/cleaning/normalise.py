"""One way to write the same text: Unicode form, control characters, white space and line ends.

Form C (NFC) joins a letter and its accent, and changes nothing that can be seen. Form KC is not
used: it would turn full-width Chinese punctuation, superscripts and mathematics into other
characters. `simplify` goes much further, the way that first tutorials do.
"""

import re
import unicodedata

# Letters of Arabic, Indic and other scripts behind which a joiner changes the shape of a letter.
_JOINING = "\u0600-\u08ff\u0900-\u109f\u1780-\u18af\ua840-\ua87f\ufb50-\ufdff\ufe70-\ufefc"
# Symbols that a zero-width joiner makes one emoji of: U+2640, U+2764 with U+FE0F, skin colours.
_EMOJI = "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
_TAGS = "\U000e0000-\U000e007f"  # unseen twins of ASCII; they spell flags behind U+1F3F4

_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_END = re.compile("\r\n|[\r\v\f\x85\u2028]")  # a form feed begins a page: no word may cross
_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f]+")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f]+")
_ALWAYS = (
    "\x00-\x08\x0e-\x1f\x7f-\x9f"  # control characters; those that end lines are gone by now
    "\u00ad\u200b\u2060-\u2064\ufeff"  # soft hyphen, spaces of no width, byte order mark
    "\u200e\u200f\u202a-\u202e\u2066-\u206f\ufff9-\ufffb"  # directions, annotations
)
_MAYBE_UNSEEN = re.compile(f"[{_ALWAYS}\u200c\u200d{_TAGS}]")  # quick; most texts have none
_UNSEEN = re.compile(
    f"[{_ALWAYS}]+"
    f"|(?<![{_JOINING}])\u200c+"  # of two joiners in a row the second follows no letter
    f"|(?<![{_JOINING}{_EMOJI}])\u200d+|(?<=[{_EMOJI}])\u200d(?![{_EMOJI}])"
    f"|(?<![\U0001f3f4{_TAGS}])[{_TAGS}]+"
)
_BLANK = " \t\u3000"
_MANY_LINES = re.compile("\n{4,}")
_VANISHING = "'\u2019\ufe0e\ufe0f"  # apostrophes, and the marks that choose an emoji's look


def normalise(text: str) -> str:
    """The text in form NFC with plain spaces and line ends, without what cannot be seen.

    - Every line end becomes "\\n"; more than two empty lines become two, none at both ends.
    - Spaces of other widths become " "; spaces at the end of a line go, those at its beginning
      stay (code).
    - U+3000 stays inside a line, where it parts names and verses, and goes at its beginning:
      there it is layout, like the indent of a style sheet, and a paragraph must equal the same
      paragraph from a page that has it or not.
    - Joiners (U+200C, U+200D) stay where a script or an emoji needs them; control characters,
      byte order marks, soft hyphens and marks of direction go.
    - Halves of surrogate pairs are joined; one without its other half becomes U+FFFD.

    Normalising twice changes nothing more. It never raises.
    """
    text = _CONTROL.sub("", _LINE_END.sub("\n", text)) if text.isascii() else _beyond_ascii(text)
    if not text.isascii() or any(blank + "\n" in text for blank in " \t") or text[-1:] in _BLANK:
        text = "\n".join(map(_trimmed, text.split("\n")))
    return _MANY_LINES.sub("\n\n\n", text).strip("\n")


def simplify(text: str) -> str:
    """Lower case, without punctuation and symbols, in one line: the recipe of first tutorials.

    An apostrophe vanishes inside its word, other marks leave a space. Chinese characters,
    accents and digits stay.
    """
    text = normalise(text).lower()
    marks = {ord(char): " " for char in set(text) if unicodedata.category(char)[0] in "PS"}
    marks.update((ord(char), "") for char in _VANISHING)
    # an emoji leaves its joiners behind, and an apostrophe may have parted letter and accent
    return " ".join(normalise(text.translate(marks)).split())


def _beyond_ascii(text: str) -> str:
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    # NFC comes first because it may take a character out of the sets above, and comes again
    # because what goes may have stood between a letter and its accent
    text = unicodedata.normalize("NFC", text)
    text = _LINE_END.sub("\n", text.replace("\u2029", "\n\n"))
    text = _SPACE.sub(lambda spaces: " " * len(spaces[0]), text)
    if not _MAYBE_UNSEEN.search(text):
        return text
    return unicodedata.normalize("NFC", _UNSEEN.sub("", text))


def _trimmed(line: str) -> str:
    line = line.rstrip(_BLANK)
    inner = line.lstrip(_BLANK)
    return inner if "\u3000" in line[: len(line) - len(inner)] else line
