"""Files of any kind as text: what is no text yet is extracted first, once."""

from collections.abc import Sequence
from pathlib import Path

from scratchlm.base.files import MANIFEST, read_json
from scratchlm.corpus import bundled
from scratchlm.corpus.read import PLAIN
from scratchlm.corpus.shards import find_sources, fingerprint
from scratchlm.corpus.stages import stage_of
from scratchlm.recipes.extract_documents import extract_documents

DOCUMENTS = "documents"  # the folder of what was extracted, in that of a run


def as_text(paths: str | Path | Sequence[str | Path], out: Path) -> list[str | Path]:
    """The paths themselves where all their files are text, or else the folder of documents `out`.

    out      is made by `extract_documents` of all files; one that was made of the same files is
             taken as it is
    raises   DataError for paths that are not there or hold nothing that can be read
    """
    given = bundled.listed(paths)
    files = find_sources(bundled.resolve_all(given), without=out)
    if all(PLAIN.kind_of(file.path) for file in files):
        return given
    known = read_json(out / MANIFEST)["settings"] if stage_of(out) == "extract" else {}
    if known.get("made_of") != fingerprint(files):
        extract_documents(given, out, overwrite=True)
    return [out]
