"""A picture of many cells as PNG (ISO/IEC 15948), without an imaging library."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import Final

_COLOUR: Final = (222, 72, 14)
_PALETTE: Final = bytes(_COLOUR) * 256
_ALPHA: Final = bytes([0, *(int(28 + 227 * (value / 255) ** 1.15) for value in range(1, 256))])
"""One colour that grows stronger: the same picture on a light page, a dark one and on paper. 0 is empty."""


def png(rows: Sequence[bytes]) -> bytes:
    """Rows of one byte for each cell; the rows are not filtered, so that a reader finds the bytes as they are."""
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 3, 0, 0, 0)
    chunks = (b"IHDR", header), (b"PLTE", _PALETTE), (b"tRNS", _ALPHA), (b"IDAT", data), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, content) for name, content in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def image(rows: Sequence[bytes], place: tuple[float, float, float, float], about: str = "") -> str:
    """The picture in an SVG, at x, y, width and height."""
    x, y, width, height = place
    data = base64.b64encode(png(rows)).decode("ascii")
    return (
        f'<image x="{x:g}" y="{y:.1f}" width="{width:g}" height="{height:.1f}" preserveAspectRatio="none"'
        f' image-rendering="pixelated"{about} href="data:image/png;base64,{data}"/>'
    )
