"""CURVE keys: made, written and read. A secret key file is readable by its owner alone.

Keys are z85 text of 40 characters (RFC 32/Z85), as libzmq prints them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from helios_world.errors import UserError

SECRET, PUBLIC = ".key", ".pub"
_Z85 = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


@dataclass(frozen=True)
class KeyPair:
    """A public key, to be told to others, and the secret one that proves it."""

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class ClientKeys:
    """What a client needs: its own pair, and the public key of the server it trusts."""

    own: KeyPair
    server: str


@dataclass(frozen=True)
class Lock:
    """What a server needs: its own pair, and the public keys of the clients that may come in."""

    own: KeyPair
    allowed: frozenset[str]


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Writes NAME.key (both keys, mode 0600) and NAME.pub. UserError if one exists: keys are never overwritten."""
    if not re.fullmatch(r"[\w-]{1,64}", name):
        raise UserError(f"name is {name!r}: letters, digits, - and _ only")
    secret, public = folder / f"{name}{SECRET}", folder / f"{name}{PUBLIC}"
    pair = KeyPair(*(key.decode() for key in zmq.curve_keypair()))
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if public.exists():
            raise FileExistsError(None, "", str(public))
        with os.fdopen(os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{pair.public}\n{pair.secret}\n")
        public.write_text(f"{pair.public}\n")
    except FileExistsError as error:
        raise UserError(f"{error.filename} exists: choose another name, or remove it first") from None
    except OSError as error:
        raise UserError(f"cannot write keys to {folder}: {error.strerror}") from None
    return secret, public


def read_pair(path: Path) -> KeyPair:
    """The pair in a .key file. UserError if it holds none, or if others than its owner may read it."""
    lines = _lines(path)
    if len(lines) != 2 or not all(map(_Z85.fullmatch, lines)) or _public_of(lines[1]) != lines[0]:
        raise UserError(f"{path} holds no key pair: make one with helios-world keygen")
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise UserError(f"{path} may be read by others than its owner: chmod 600 {path}")
    return KeyPair(*lines)


def read_public(path: Path) -> str:
    """The public key in a .pub file."""
    lines = _lines(path)
    if len(lines) != 1 or not _Z85.fullmatch(lines[0]):
        raise UserError(f"{path} holds no public key: it must be one line of 40 characters, as keygen writes it")
    return lines[0]


def read_allowed(paths: Iterable[Path]) -> frozenset[str]:
    """The public keys in .pub files and in folders of them."""
    files = [file for path in paths for file in (sorted(path.glob(f"*{PUBLIC}")) if path.is_dir() else [path])]
    return frozenset(map(read_public, files))


def read_client_keys(key: str | Path | None, server: str | Path | None) -> ClientKeys | None:
    """From a client's own .key file and its server's .pub file; None where neither is given."""
    if key is None and server is None:
        return None
    if key is None or server is None:
        raise UserError("a client with keys needs both: its own key and the server's public key")
    return ClientKeys(read_pair(Path(key)), read_public(Path(server)))


def _public_of(secret: str) -> str:
    return zmq.curve_public(secret.encode()).decode()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} holds no key") from None
