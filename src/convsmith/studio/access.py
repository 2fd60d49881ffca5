"""Who may come in: a token or a password once, then a signed cookie; changes also need the session's own proof."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from convsmith.errors import ResourceError, UsageError
from convsmith.runs import files

LIFE_S = 30 * 24 * 3600
HEADER = "x-csrf-token"
LEAST_PASSWORD = 8


@dataclass(frozen=True)
class Session:
    """Somebody who came in. ``proof`` has to come with every change, "" for a client that sends the token each time."""

    id: str
    proof: str


class Access:
    """Checks tokens, passwords and cookies. The token is kept beside the runs, so a restarted server knows its visitors."""

    def __init__(self, secret: bytes, password: str | None = None) -> None:
        self.secret = secret
        self.token = self._sign("token")
        self.cookie = f"convsmith-{self._sign('cookie')[:8]}"
        self._salt = secrets.token_bytes(16)
        self._password = None if password is None else self._scrambled(password)

    def _sign(self, text: str) -> str:
        return hmac.new(self.secret, text.encode(), hashlib.sha256).hexdigest()

    def _scrambled(self, password: str) -> bytes:
        return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=self._salt, n=2**14, r=8, p=1)

    def admits(self, word: str) -> bool:
        """Tell whether a word is the token or the password, in a time that does not tell how much of it was right."""
        right = hmac.compare_digest(word.encode("utf-8", "surrogatepass"), self.token.encode())
        if self._password is not None and len(word) <= 1024:
            right |= hmac.compare_digest(self._scrambled(word), self._password)
        return right

    def issue(self) -> str:
        """Return the cookie of a new session."""
        told = f"{secrets.token_hex(16)}.{int(time.time()) + LIFE_S}"
        return f"{told}.{self._sign('session ' + told)}"

    def session(self, cookie: str | None, authorization: str | None) -> Session | None:
        """Return the session of a request, None when it shows neither a valid cookie nor the token."""
        scheme, _, word = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(word.strip().encode("utf-8", "surrogatepass"), self.token.encode()):
            return Session("token", "")
        told, _, signature = (cookie or "").rpartition(".")
        if not told or not hmac.compare_digest(signature.encode("utf-8", "surrogatepass"), self._sign("session " + told).encode()):
            return None
        id, _, until = told.partition(".")
        return Session(id, self._sign("proof " + id)) if until.isdigit() and int(until) > time.time() else None

    def proves(self, session: Session, shown: str | None) -> bool:
        """Tell whether a change comes from a page of ours; a client with the token needs no proof, for no browser sends that by itself."""
        return not session.proof or hmac.compare_digest((shown or "").encode("utf-8", "surrogatepass"), session.proof.encode())


def open_access(root: Path, password_file: Path | None = None) -> Access:
    """Read the secret beside the runs, or make it, readable for its owner alone.

    Raises: ResourceError when it cannot be kept; UsageError for a password that is too short.
    """
    folder = root / ".studio"
    path = folder / "secret"
    with files.writing(path):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            files.write_bytes(path, secrets.token_hex(32).encode())
        path.chmod(0o600)
        secret = path.read_bytes().strip()
    if len(secret) < 32:
        raise ResourceError(f"{path} is damaged; remove it, and the studio makes another")
    return Access(secret, None if password_file is None else _password(password_file))


def _password(path: Path) -> str:
    try:
        first = (path.expanduser().read_text(encoding="utf-8").splitlines() or [""])[0]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--password-file {path} cannot be read: {error}") from None
    if len(first) < LEAST_PASSWORD:
        raise UsageError(f"the password in {path} has {len(first)} characters; it needs at least {LEAST_PASSWORD}")
    return first
