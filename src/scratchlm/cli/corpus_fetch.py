"""`corpus fetch`: pages of the web into archives."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from scratchlm.cli.command import Command, Inline, Paths
from scratchlm.recipes.fetch_pages import fetch_pages
from scratchlm.web.fetch_config import FetchConfig


@dataclass(frozen=True)
class Fetch(Command):
    """Fetch pages from the web, each address once, into archives (WARC).

    PATH are lists, or folders of them: .txt with an address a line, or what corpus urls makes. What
    robots.txt forbids is not fetched, each host has its rate, and no private network is connected
    to, whatever a name or a redirect says. Stop it at any moment: the same command goes on. What
    became of each address stands in journal.tsv, the sums by reason in counts.json.

    Examples:
      scratchlm corpus fetch urls/ --out pages/ --contact https://example.org/my-crawler
      scratchlm corpus fetch links.txt --out pages/ --workers 300 --per-host 10/m --timeout 20
      scratchlm corpus fetch urls/ --out try/ --limit 1000
    """

    paths: Paths  # .txt or .jsonl lists, or folders of them
    out: Path  # the folder to make
    config: Annotated[FetchConfig, Inline] = field(default_factory=FetchConfig)

    def run(self) -> None:
        """Fetch, and print the folder's path."""
        fetch_pages(self.paths, self.out, config=self.config)
        print(self.out)
