"""A server for `fetch.py`: as little work for each page as asyncio allows.

GET /50/123 is answered by some 50 kB of HTML, packed by gzip, as nearly all of the web does it for
whoever asks; GET /plain50/123 by the same as it is.
"""

import asyncio
import gzip
import random

_SENTENCE = "<p>The {} of the {} is as {} as the {} that it was made of, and so is its {}.</p>\n"
_WORDS = (
    "east sun moon night morrow light sorrow cheek daughter airy region window envious maid vestal "
    "livery silk gold river mountain wine frost lamp shadow autumn goose letter gate tower boat"
)


def page(n_bytes: int) -> bytes:
    """HTML of about so many bytes, the same each time; it shrinks by gzip as prose does."""
    rng = random.Random(n_bytes)
    words = _WORDS.split()
    body = "<html><head><title>A page</title></head><body>\n"
    while len(body) < n_bytes:
        body += _SENTENCE.format(*(rng.choice(words) + rng.choice(words) for _ in range(5)))
    return f"{body}</body></html>".encode()


class Server(asyncio.Protocol):
    """Answers each request at once; robots.txt is not there."""

    pages: dict[bytes, bytes] = {}  # noqa: RUF012

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a connection."""
        self.transport = transport
        self.left = b""

    def data_received(self, data: bytes) -> None:
        """Answer the requests that have come whole."""
        *requests, self.left = (self.left + data).split(b"\r\n\r\n")
        for request in requests:
            self.transport.write(self.answer(request.split(b" ", 2)[1]))  # type: ignore[attr-defined]

    def answer(self, path: bytes) -> bytes:
        """The whole answer for a path."""
        _, kind, *_ = path.split(b"/")
        size = kind.removeprefix(b"plain")
        if not size.isdigit():
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        if kind not in self.pages:
            body, encoding = page(int(size) * 1000), ""
            if kind == size:
                body, encoding = gzip.compress(body, 6), "Content-Encoding: gzip\r\n"
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n"
            self.pages[kind] = f"{head}{encoding}Server: bench\r\n\r\n".encode() + body
        return self.pages[kind]


async def main() -> None:
    """Serve until the process is ended; prints the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
