"""Addresses without their passwords: what is written down or shown names a server, and a secret stays where it is."""

from __future__ import annotations

import io
import os
import re
from typing import TextIO
from urllib.parse import unquote

HIDDEN = "***"
URI_VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
_SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_SHORTEST = 4
"""Characters from which a secret is looked for in running text; a shorter one is a part of too many words."""

# A password ends at the last @ of its part of the address, or, where it holds / ? or # unescaped, at the last of all.
_USER = r"""(?P<scheme>\b[a-z][a-z0-9+.-]*)://(?P<user>[^\s"'<>:/?#@]*)"""
_USER_INFO = re.compile(_USER + r"""(?P<password>:(?:[^\s"'<>/?#]*|[^\s"'<>]*))?@""", re.IGNORECASE)
_QUERY = re.compile(r"""(?<=[?&])([\w-]*(?:pass|pwd|token|secret|key)[\w-]*)=[^&\s"'<>#]+""", re.IGNORECASE)


def public_address(uri: str) -> str:
    """The address with *** for its password, and for a name that stands alone before a web server, as tokens do."""
    return _QUERY.sub(rf"\1={HIDDEN}", _USER_INFO.sub(_hidden, uri))


def _hidden(found: re.Match[str]) -> str:
    scheme, user = found["scheme"], found["user"]
    if found["password"] is not None:
        return f"{scheme}://{user}:{HIDDEN}@"
    return f"{scheme}://{HIDDEN if scheme.lower() in ('http', 'https') else user}@"


def same_server(uri: str, other: str) -> bool:
    """Whether two addresses, as they are or redacted, differ in nothing but who asks."""
    return _anonymous(uri) == _anonymous(other)


def _anonymous(uri: str) -> str:
    return _USER_INFO.sub(r"\g<scheme>://", public_address(uri))


def bare_address(uri: str) -> str:
    """The address without name and password, for a browser."""
    return _USER_INFO.sub(r"\g<scheme>://", uri)


def redacted(text: object) -> str:
    """The text, such as an error of MLflow's, without passwords of addresses in it or of the environment."""
    told = str(text)
    for secret in sorted(_secrets(), key=len, reverse=True):
        told = told.replace(secret, HIDDEN)
    return public_address(told)


def _secrets() -> set[str]:
    found = {os.environ.get(name, "") for name in _SECRET_VARIABLES}
    for name in URI_VARIABLES:
        if (match := _USER_INFO.search(os.environ.get(name, ""))) and match["password"]:
            found |= {match["password"][1:], unquote(match["password"][1:])}
    return {secret for secret in found if len(secret) >= _SHORTEST}


def lacks_secret(recorded: str, uri: str) -> bool:
    """Whether a server that was asked with a password, by its redacted address, is now to be asked without one."""
    given = HIDDEN in public_address(uri) or any(os.environ.get(name) for name in _SECRET_VARIABLES)
    return same_server(recorded, uri) and HIDDEN in recorded and not given


class RedactingStream(io.TextIOBase):
    """What is written to it goes on to `stream` redacted: our own lines, and those of libraries."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redacted(text))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()
