"""Texts that ship with the program, both in the public domain.

shakespeare  "tiny shakespeare": parts of Shakespeare's plays, as Andrej Karpathy's char-rnn has
             them (github.com/karpathy/char-rnn)
tang         poems of the Complete Tang Poems: title, author, verses in traditional characters,
             from github.com/chinese-poetry/chinese-poetry (MIT)
"""

from collections.abc import Iterable
from pathlib import Path

from scratchlm.base.errors import ConfigError

PREFIX = "bundled:"
NAMES = ("shakespeare", "tang")


def resolve_all(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """`resolve` for one path or several; a text alone is one path, not a list of letters."""
    return [resolve(path) for path in listed(paths)]


def listed(paths: str | Path | Iterable[str | Path]) -> list[str | Path]:
    """One path or several as a list, names of bundled texts as they are."""
    return [paths] if isinstance(paths, (str, Path)) else list(paths)


def resolve(path: str | Path) -> Path:
    """`bundled:shakespeare` or `bundled:tang` as the file it stands for; other paths as they are.

    raises   ConfigError for a bundled text that there is none of
    """
    text = str(path)
    if not text.startswith(PREFIX):
        return Path(path)
    name = text.removeprefix(PREFIX)
    if name not in NAMES:
        raise ConfigError(f"{text} is not one of {', '.join(PREFIX + name for name in NAMES)}.")
    return Path(__file__).parent / "texts" / f"{name}.txt"
