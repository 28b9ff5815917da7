"""What cleaning does with texts: a recipe is a TOML file, `web`, `books` and the like ship.

What a recipe does not name is not done.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from scratchlm.base.config import read_toml
from scratchlm.base.errors import ConfigError
from scratchlm.cleaning.boilerplate import Boilerplate
from scratchlm.cleaning.limits import Limits
from scratchlm.cleaning.near_duplicates import DuplicateSettings

_FOLDER = Path(__file__).parent / "recipes"
Form = Literal["as it is", "normal", "simple"]


@dataclass(frozen=True, slots=True)
class CleanRecipe:
    """One recipe; `en`, `zh` and `other` hold the rules of quality for these languages."""

    form: Form = "as it is"  # "normal": one spelling of the same text; "simple": also lower case
    languages: tuple[str, ...] = ()  # ISO 639-1 codes of those to keep; (): all
    en: Limits = field(default_factory=Limits)
    zh: Limits = field(default_factory=Limits)
    other: Limits = field(default_factory=Limits)
    boilerplate: Boilerplate | None = None
    duplicates: DuplicateSettings | None = None
    mask_personal_data: bool = False

    def limits(self, language: str) -> Limits:
        """The rules for a language."""
        return {"en": self.en, "zh": self.zh}.get(language, self.other)


def recipe_names() -> list[str]:
    """The recipes that ship."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load_recipe(name: str | Path) -> CleanRecipe:
    """A recipe that ships, by its name, or one of the user's, by its path.

    raises   ConfigError for an unknown name, and for what `read_toml` refuses
    """
    path = Path(name)
    if path.suffix == ".toml":
        return read_toml(CleanRecipe, path)
    if str(name) not in recipe_names():
        raise ConfigError(
            f"recipe = {str(name)!r} is none of {', '.join(recipe_names())}, and no .toml file."
        )
    return read_toml(CleanRecipe, _FOLDER / f"{name}.toml")
