"""Where a model folder keeps its chat template."""

from pathlib import Path

from scratchlm.base.errors import CheckpointError
from scratchlm.base.files import read_json

TEMPLATE = "chat_template.jinja"
_CONFIG = "tokenizer_config.json"  # older folders have it there
_MOST_BYTES = 1 << 20  # the longest on the hub have under 20 kB


def read_template(folder: Path) -> str | None:
    """The chat template of a model folder, where there is one.

    raises   CheckpointError for a file that is too long or not UTF-8
    """
    path = folder / TEMPLATE
    if path.is_file():
        if path.stat().st_size > _MOST_BYTES:
            raise CheckpointError(f"{path} has over {_MOST_BYTES} bytes: it is no chat template.")
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as bad:
            raise CheckpointError(f"{path} is not UTF-8 at byte {bad.start}.") from None
    config = folder / _CONFIG
    values = read_json(config, CheckpointError) if config.is_file() else {}
    found = values.get("chat_template") if isinstance(values, dict) else None
    if isinstance(found, list):  # several by name
        named = [one for one in found if isinstance(one, dict) and one.get("name") == "default"]
        found = named[0].get("template") if named else None
    return found if isinstance(found, str) else None
