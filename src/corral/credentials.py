"""API keys' secrets: made, judged when they come from elsewhere, and digested; knows no key's owner and no file.

Only a SHA-256 digest of a secret is ever kept. A slow hash (bcrypt, scrypt, Argon2) makes guessing dear, which
passwords need; nobody guesses 256 random bits, so it would only cost time at every request. Secrets that come from
elsewhere must be long enough for the same reason.
"""

import hashlib
import re
import secrets
from typing import Final

PREFIX: Final = "sk-corral-"
SHORTEST: Final = 20  # characters of a secret from elsewhere; 20 random letters are over 90 bits
LONGEST: Final = 512
_RANDOM_BYTES: Final = 32
_FORM: Final = re.compile(r"[!-~]+", re.ASCII)  # visible ASCII: what a header can carry unchanged
_FEWEST_LETTERS: Final = 8  # different ones in a secret: "aaaaaaaa..." is long and no secret


def new_secret() -> str:
    """A secret of 256 random bits: "sk-corral-" and 43 characters."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def digest(secret: bytes) -> bytes:
    """What is kept of a secret, and what a request's secret is looked up by: 32 bytes.

    Looking up a digest tells a clock nothing of the secret: who changes a letter changes the whole digest.
    """
    return hashlib.sha256(secret).digest()


def judge(secret: str) -> str | None:
    """What is wrong with a secret from elsewhere, as the end of "The secret ..."; None when it can be used."""
    if not _FORM.fullmatch(secret):
        return "is empty, or holds a space or a character that is not plain ASCII"
    if len(secret) > LONGEST:
        return f"is longer than {LONGEST} characters"
    if len(secret) < SHORTEST or len(set(secret)) < _FEWEST_LETTERS:
        return f"can be guessed: it has under {SHORTEST} characters, or few different ones"
    return None
