"""Every error this package raises on purpose.

HeliosWorldError
  UserError (also a ValueError)   what was given is not allowed; programs exit with 2
    PackError                     a world pack is missing, damaged or of another format
    MissingExtra                  an optional dependency is not installed
  ProtocolError                   bytes that are not a message of this protocol
  ServerError                     the server answered a request with an error; has a stable `code`
  ConnectionLost                  the server cannot be reached or stopped answering
"""

from __future__ import annotations

from collections.abc import Iterable


class HeliosWorldError(Exception):
    """Root of the errors of this package."""


class UserError(HeliosWorldError, ValueError):
    """What was given is not allowed. The text is one line: what came, what is allowed."""


class PackError(UserError):
    """A world pack cannot be used."""


class MissingExtra(UserError):
    """An optional dependency is not installed."""

    def __init__(self, module: str, extra: str):
        super().__init__(f"{module} is not installed: pip install 'helios-world[{extra}]'")


class ProtocolError(HeliosWorldError):
    """Bytes that are not a message of this protocol."""


class ServerError(HeliosWorldError):
    """The server refused a request.

    Attributes:
        code: short stable word, such as `bad_request`, `busy` or `unknown_session`.
    """

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


class ConnectionLost(HeliosWorldError):
    """The server cannot be reached, or stopped answering."""


def check_name(kind: str, name: str, allowed: Iterable[str]) -> str:
    """Returns `name` if it is one of `allowed`; otherwise raises UserError naming both."""
    allowed = list(allowed)
    if name not in allowed:
        raise UserError(f"unknown {kind} {name!r}: choose from {', '.join(allowed) or 'nothing'}")
    return name
