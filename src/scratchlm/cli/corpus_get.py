"""`corpus get`: data sets of the internet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from scratchlm.base.errors import ConfigError
from scratchlm.cli.command import Command
from scratchlm.recipes.get_data import get_data
from scratchlm.web.data_sets import known_data


@dataclass(frozen=True)
class Get(Command):
    """Download a data set: a known one by its name, or any one of a hub.

    Without SOURCE the known ones are listed. hf:OWNER/NAME is one of the Hugging Face hub
    (HF_ENDPOINT names a mirror, HF_TOKEN opens what is closed), ms:OWNER/NAME one of ModelScope
    (MODELSCOPE_ENDPOINT, MODELSCOPE_API_TOKEN). A download that breaks off goes on at the next
    call; every file is held against its checksum. The real hubs were not tried from where this
    was written.

    Examples:
      scratchlm corpus get
      scratchlm corpus get tinystories
      scratchlm corpus get hf:wikimedia/wikipedia:20231101.zh --out wiki
      scratchlm corpus get ms:gongjy/minimind_dataset --files 'pretrain*.jsonl'
    """

    source: Positional[str | None] = None  # a known name, hf: or ms: with OWNER/NAME[:SUBSET]
    out: Path | None = None  # the folder to make; without it, one of the data set's name, here
    files: tuple[str, ...] = ()  # only files that match: 'train-*' 'data/**/*.parquet'
    language: Literal["en", "zh"] = "en"  # of the list of known data sets

    def run(self) -> None:
        """Download and print the folder's path; or print the list."""
        if self.source is not None:
            print(get_data(self.source, self.out, files=self.files).folder)
        elif self.out is not None or self.files:
            raise ConfigError("what is to be downloaded? Give a SOURCE in front of the options.")
        else:
            for name, known in known_data().items():
                print(f"{name:13} {known.size:>10}  {getattr(known, self.language)}")
                print(f"{'':24}  [{known.license or 'licence not stated'}]")
