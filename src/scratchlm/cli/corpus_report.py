"""`corpus report`: what became of a corpus, as a page."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from scratchlm.cli.command import Command
from scratchlm.recipes.corpus_report import report
from scratchlm.report.words import Language


@dataclass(frozen=True)
class Report(Command):
    """Show what was thrown away and why, as one page that any browser opens.

    FOLDER is what `scratchlm corpus clean` has made. The page shows the flow through the stages,
    languages, lengths, sources, duplicates, and for every rule the worst documents that it kept
    beside the best that it dropped. It is a single file that loads nothing, so it can be sent
    about; texts of the web in it are shown as text, whatever they are.

    Examples:
      scratchlm corpus report clean/ --out report.html
      scratchlm corpus report clean/ --out report.zh.html --language zh
    """

    folder: Positional[Path]  # a folder that clean has made
    out: Path  # the page to write, a file that ends in .html
    language: Language = "en"  # of the page's own words: English or Chinese
    overwrite: bool = False  # replace an older file of that name

    def run(self) -> None:
        """Write the page and print its path."""
        print(report(self.folder, self.out, language=self.language, overwrite=self.overwrite))
