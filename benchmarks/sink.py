"""Takes OTLP over HTTP and counts bytes, as they come and compressed: for ``measuring.sink``."""

from __future__ import annotations

import gzip
import json
import sys
import threading
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

received: defaultdict[str, Counter[str]] = defaultdict(Counter)


class Handler(BaseHTTPRequestHandler):
    """Accepts everything."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """One request of an exporter."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        received[self.path].update(requests=1, raw=len(body), gzip=len(gzip.compress(body, 6)))
        self.send_response(200)
        self.send_header("Content-Type", self.headers["Content-Type"])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def main() -> None:
    """Serve until stdin is closed."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    sys.stdout.write(json.dumps(received))


if __name__ == "__main__":
    main()
