"""What a user can mend. The command line prints these without a traceback and exits with 2.

UserError
  ConfigError        a setting: unknown, wrong type, impossible together with another
  DataError          a file of text, a shard, a record: the message names file and line
  CheckpointError    a model folder or a training state
  MissingExtraError  an optional library: the message says which `pip install` cures it
"""


class UserError(Exception):
    """Something the user can mend: the message names the file, line or setting and the cure."""


class ConfigError(UserError):
    """A setting that is unknown, of the wrong type, or impossible together with another."""


class DataError(UserError):
    """Text, shards or records that cannot be used; names the file and, where it can, the line."""


class CheckpointError(UserError):
    """A model folder or training state that is damaged, foreign or of an unknown version."""


class MissingExtraError(UserError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the library {library}, which is not installed. "
            f'Install it with: pip install "scratchlm[{extra}]"'
        )
        self._arguments = library, extra, purpose

    def __reduce__(self) -> tuple[type["MissingExtraError"], tuple[str, str, str]]:
        return MissingExtraError, self._arguments  # raised in a worker, it travels as a pickle
