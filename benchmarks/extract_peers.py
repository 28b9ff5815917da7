"""Other people's side of the benchmark of main texts, each as its own documentation has it."""

from collections.abc import Callable
from typing import Any

from extract_score import measure


def extract(folder: str, n_pages: int, library: str) -> dict[str, Any]:
    """Time and score a library."""
    return measure(folder, n_pages, LIBRARIES[library]())


def _newspaper4k() -> Callable[[bytes], str]:
    import newspaper  # only the peers' interpreter needs it

    offline = newspaper.Config()
    offline.fetch_images = False

    def text_of(body: bytes) -> str:
        article = newspaper.Article(url="", config=offline)
        article.download(input_html=body.decode("utf-8", "replace"))
        article.parse()
        return article.text

    return text_of


def _readability() -> Callable[[bytes], str]:
    import lxml.html
    from readability import Document

    def text_of(body: bytes) -> str:
        summary = Document(body.decode("utf-8", "replace")).summary()
        blocks = lxml.html.fromstring(summary).itertext()
        return " ".join(blocks)

    return text_of


def _trafilatura() -> Callable[[bytes], str]:
    import trafilatura

    return lambda body: trafilatura.extract(body, include_comments=False) or ""


LIBRARIES = {
    "newspaper4k": _newspaper4k,
    "readability-lxml": _readability,
    "trafilatura": _trafilatura,
}
