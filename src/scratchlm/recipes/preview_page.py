"""What `preview` found as one HTML page that loads nothing, holds no script, and shows any text
as text. It stands behind the same walls as a corpus report (`report/page.py`).
"""

from pathlib import Path

from scratchlm.recipes.preview_facts import Piece, Preview
from scratchlm.recipes.preview_words import checks_of, facts_of, title_of, title_of_part
from scratchlm.report.page import page_style, page_template, policy_of

_FOLDER = Path(__file__).parent / "template"


def page_of(made: Preview) -> str:
    """The page; a token tells its ids when the pointer rests on it."""
    style = page_style() + (_FOLDER / "preview.css").read_text("utf-8")
    return page_template(_FOLDER, "preview.html").render(
        made=made,
        title=title_of(made),
        style=style,
        policy=policy_of(style),
        title_of_part=title_of_part,
        classes=_classes,
        line_ends=lambda piece: "\n" * piece.n_lines,
        facts=facts_of(made),
        checks=checks_of(made),
    )


def _classes(piece: Piece, number: int) -> str:
    """Every other one has another shade."""
    names = ["learned" if piece.learned else "context"]
    names += ["other"] * (number % 2) + ["special"] * piece.special
    return " ".join(names + ["several"] * (len(piece.ids) > 1))
