"""ClickHouse's HTTP interface over chDB, on loopback: enough for the Collector's exporter to make its tables and
fill them, and for ClickHouse's own Python client to ask. ``python -m tests.e2e.clickhouse_bridge FOLDER PORT``.

The Go client of the exporter sends blocks of the Native format's first revision, which chDB reads; it wants
answers at its own, where block information comes first, and for each column a byte for its kind of serialisation.
"""

from __future__ import annotations

import http.server
import json
import re
import struct
import sys
import tempfile
import threading
import urllib.parse

from chdb.session import Session

_BLOCK = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_NUMBERS = {"UInt8": "B", "UInt32": "I", "UInt64": "Q", "Int32": "i", "Int64": "q"}
_NO_ROWS = re.compile(r"\s*(CREATE|ALTER|INSERT|DROP|USE|SET)\b", re.IGNORECASE)


class Bridge(http.server.BaseHTTPRequestHandler):
    """One session, one query at a time."""

    protocol_version = "HTTP/1.1"
    session = Session(sys.argv[1])
    lock = threading.Lock()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def do_POST(self) -> None:
        said = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        body = self._body()
        query, data = (said["query"], body) if "query" in said else (body.decode(errors="replace"), b"")
        is_go = "clickhouse-go" in self.headers.get("User-Agent", "")
        as_format = "Native"
        try:
            with self.lock:
                if said.get("database", "default") != "default" and not query.startswith("CREATE DATABASE"):
                    self.session.query(f"USE `{said['database']}`")
                answer = self._go(query, data) if is_go else self._plain(query, said)
            code = 200
        except Exception as error:
            code, answer = 500, str(error).encode()
            print(query, error, file=sys.stderr, flush=True)
        self.send_response(code)
        for name, value in ("Format", as_format), ("Timezone", "UTC"), ("Server-Display-Name", "chdb"):
            self.send_header(f"X-ClickHouse-{name}", value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def _plain(self, query: str, said: dict[str, str]) -> bytes:
        if _NO_ROWS.match(query):
            self.session.query(query)
            return b""
        settings = ", ".join(
            f"{name} = {value}"
            for name, value in said.items()
            if name.startswith("output_format_") or name == "max_query_size"
        )
        found = re.search(r"\s+FORMAT\s+(\w+)\s*$", query)
        query = query[: found.start()] if found else query
        query = f"{query} SETTINGS {settings}" if settings and "SETTINGS" not in query else query
        return bytes(
            self.session.query(query, found[1] if found else said.get("default_format", "Native")).bytes()
        )

    def _go(self, query: str, data: bytes) -> bytes:
        if data and query.lstrip().upper().startswith("INSERT"):
            into = re.sub(r"\s+(VALUES|FORMAT Native)\s*$", "", query.strip(), flags=re.IGNORECASE)
            with tempfile.NamedTemporaryFile(suffix=".native") as file:
                file.write(data)
                file.flush()
                self.session.query(f"{into} FROM INFILE '{file.name}' FORMAT Native")
            return b""
        if query.startswith("SELECT displayName()"):
            names = ["displayName()", "version()", "revision()", "timezone()"]
            row = ["chdb", "26.9.1.1", "54485", "UTC"]
            return _block(names, ["String", "String", "UInt32", "String"], [row])
        if _NO_ROWS.match(query):
            self.session.query(query)
            return b""
        found = json.loads(str(self.session.query(query, "JSONCompact")))
        names, types = ([column[key] for column in found["meta"]] for key in ("name", "type"))
        return _block(names, types, [[*map(str, row)] for row in found["data"]])


def _block(names: list[str], types: list[str], rows: list[list[str]]) -> bytes:
    out = _BLOCK + _number(len(names)) + _number(len(rows))
    for place, (name, kind) in enumerate(zip(names, types, strict=True)):
        out += _string(name) + _string(kind) + b"\x00"
        for row in rows:
            value = row[place]
            out += _string(value) if kind == "String" else struct.pack(f"<{_NUMBERS[kind]}", int(value))
    return out


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _string(text: str) -> bytes:
    data = text.encode()
    return _number(len(data)) + data


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Bridge).serve_forever()
