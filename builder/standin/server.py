"""How is a directory served over HTTP to programs of this machine?"""

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any


class Handler(SimpleHTTPRequestHandler):
    """Files of one directory, with byte ranges (RFC 9110, 14.2: one range), and no word about it."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    left: int | None = None  # bytes still to send of a range

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def send_head(self) -> Any:
        self.left = None
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            return super().send_head()
        size, first = path.stat().st_size, int(wanted[1])
        last = min(int(wanted[2]) if wanted[2] else size - 1, size - 1)
        if first > last:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        self.left = last - first + 1
        self.send_response(HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Type", self.guess_type(os.fspath(path)))
        self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(self.left))
        self.send_header("Last-Modified", self.date_time_string(int(path.stat().st_mtime)))
        self.end_headers()
        stream = path.open("rb")
        stream.seek(first)
        return stream

    def copyfile(self, source: Any, outputfile: Any) -> None:
        if self.left is None:
            super().copyfile(source, outputfile)
        else:
            copy_part(source, outputfile, self.left)


def copy_part(source: IO[bytes], target: IO[bytes], left: int) -> None:
    while left > 0:
        block = source.read(min(left, 1 << 16))
        if not block:
            return
        target.write(block)
        left -= len(block)


class Server(ThreadingHTTPServer):
    """A client that goes away in the middle is no event."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextlib.contextmanager
def serve(root: Path, *, handler: type[Handler] = Handler) -> Iterator[str]:
    """Serve ``root`` on a free port of the loopback address while inside; yields ``http://127.0.0.1:PORT``."""
    with Server(("127.0.0.1", 0), partial(handler, directory=os.fspath(root))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
