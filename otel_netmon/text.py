"""Text from outside on its way to a backend."""

from __future__ import annotations

import json
import os
import re
from typing import Final

MOST: Final = 255
"""Characters of a name: host names have no more, and one that is longer was never meant to be read."""

as_json: Final = json.JSONEncoder(separators=(",", ":")).encode
"""A value as JSON in ASCII, without blanks. ``json.dumps`` would make an encoder for each."""
HERE: Final = os.urandom(16).hex()
"""Where something is put into a text that was made without it: occurs in no name and in no value."""


def bounded(value: str) -> str:
    """``value`` as valid UTF-8 of at most 255 characters.

    What cannot be encoded becomes ``?``: a single such attribute would make the whole request fail.
    """
    return value[:MOST].encode("utf-8", "replace").decode()


def printable(value: str) -> str:
    """``value`` of at most 256 characters, without control characters: fit for a terminal, whoever wrote it."""
    value = value[:256]
    return value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in value)


def listed(value: str) -> tuple[str, ...]:
    """The parts of a list that is separated by commas, but for those that are blank."""
    return tuple(part.strip() for part in value.split(",") if part.strip())


def file_part(value: str) -> str:
    """``value`` as a part of a file's name: letters, digits, dots and dashes, 64 at most."""
    return _UNSAFE.sub("-", value)[:64]


_UNSAFE: Final = re.compile(r"[^A-Za-z0-9.]+")


def is_valid(value: str) -> bool:
    """Whether ``value`` can be encoded: names of files may hold any bytes."""
    return value.isascii() or value == value.encode("utf-8", "replace").decode()


def is_secret(text: str) -> bool:
    """Whether a variable's name or value speaks of what nobody else is to see."""
    return _SECRET.search(text) is not None


def without_secrets(text: str) -> str:
    """A URL's user and query hidden; the rest of ``text`` as it is."""
    text = _URL_USER.sub("***@", text)
    return _URL_QUERY.sub("?***", text) if "://" in text else text


_SECRET: Final = re.compile(r"HEADER|CERT|KEY|SECRET|TOKEN|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
_URL_USER: Final = re.compile(r"(?:(?<=//)|^)[^/@\s]*@")
_URL_QUERY: Final = re.compile(r"[?#]\S*")
