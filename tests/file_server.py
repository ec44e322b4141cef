"""A local HTTP server that behaves as badly as real ones: it breaks off, ignores Range, sends wrong bytes."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock


class FileServer(ThreadingHTTPServer):
    """Serves `files` from memory.

    Attributes:
        files: path without the slash → bytes.
        broken: for each of the next requests, after how many bytes the line breaks off.
        refusals: statuses for the next requests, before anything else.
        ranges: whether Range is understood.
        lengths: whether Content-Length is sent.
        wrong_part: answer a Range from another byte.
        requests: (path, Range header or None) of every request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.broken: list[int] = []
        self.refusals: list[int] = []
        self.ranges, self.lengths, self.wrong_part = True, True, False
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        """The base address, without a slash at its end."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server, path = self.server, self.path.strip("/")
        server.requests.append((path, self.headers.get("Range")))
        if server.refusals:
            self.send_error(server.refusals.pop(0))
        elif path not in server.files:
            self.send_error(404)
        else:
            self._send(server.files[path])

    def _send(self, content: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and self.server.ranges else 0
        if start >= len(content) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        if start and self.server.wrong_part:
            start -= 1
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.server.lengths:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + self.server.broken.pop(0) if self.server.broken else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server in a thread of this process."""
    with FileServer() as server, mock.patch.dict(os.environ, {"no_proxy": "*"}):
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
