"""A TLS certificate and its key: judged before anything starts, loaded anew when renewed; knows no HTTP."""

import ssl
import stat
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from corral.errors import BadInput

_PEM: Final = "PEM, the text form that begins with -----BEGIN"
_SOON_SECONDS: Final = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Pair:
    """Where the two files lie."""

    cert: Path  # PEM: the server's certificate first, then those between it and a root
    key: Path  # PEM, without a passphrase


@dataclass(frozen=True, slots=True)
class Judged:
    """What a pair that can be used says of itself."""

    names: frozenset[str]  # DNS names that it is for, in lower case; those with a wildcard are left out
    warnings: tuple[str, ...]  # sentences


def judge(pair: Pair, now: float) -> Judged:
    """Look at both files; BadInput when they cannot serve. `now`: seconds since the epoch."""
    certificate = _read(pair.cert, "certificate", "--tls-cert")
    _read(pair.key, "key", "--tls-key")
    if pair.key.stat().st_mode & stat.S_IROTH:
        raise BadInput(
            f"Every user of this machine can read the TLS key {pair.key}.", f"Run `chmod o-rwx {pair.key}` first."
        )
    judged = _judge(certificate, pair.cert, now)
    _load(_bare_context(), pair)
    return judged


def context(pair: Pair) -> ssl.SSLContext:
    """What a server needs to speak TLS 1.2 and 1.3 with this pair; BadInput when it cannot."""
    made = _bare_context()
    _load(made, pair)
    return made


class Renewal:
    """Keeps a context's certificate as its files are: whoever renews them restarts nothing."""

    def __init__(self, pair: Pair, live: ssl.SSLContext) -> None:
        self._pair = pair
        self._live = live
        self._seen = self._signature()

    def look(self) -> bool:
        """Whether the files have changed and are used from now on; connections that are open keep what they have.

        Files that cannot be used, such as a new certificate whose key is still to come, are left alone until they
        change again.
        """
        signature = self._signature()
        if signature == self._seen:
            return False
        self._seen = signature
        try:
            _load(_bare_context(), self._pair)
            _load(self._live, self._pair)
        except BadInput as error:
            sys.stderr.write(f"The TLS files have changed and are not used: {error}\n")
            return False
        return True

    def _signature(self) -> tuple[object, ...]:
        return _stamp(self._pair.cert), _stamp(self._pair.key)


def _stamp(path: Path) -> object:
    try:
        status = path.stat()  # of what a link leads to: certbot renews by turning links
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _read(path: Path, what: str, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"The TLS {what} {path} cannot be read: {error.strerror}.", f"Give {option} a file in PEM."
        ) from None


def _judge(content: bytes, path: Path, now: float) -> Judged:
    # Loaded late: only who serves TLS needs it.
    from cryptography import x509  # noqa: PLC0415

    try:
        first = x509.load_pem_x509_certificates(content)[0]
    except ValueError:
        raise BadInput(f"{path} holds no certificate in {_PEM}.", "Give --tls-cert a certificate.") from None
    at = datetime.fromtimestamp(now, UTC)
    begins, ends = first.not_valid_before_utc, first.not_valid_after_utc
    warnings: list[str] = []
    if at < begins:
        warnings.append(f"The TLS certificate {path} is good only from {begins:%Y-%m-%d %H:%M} UTC on.")
    if at >= ends:
        warnings.append(f"The TLS certificate {path} has expired at {ends:%Y-%m-%d %H:%M} UTC: clients will refuse it.")
    elif (ends - at).total_seconds() < _SOON_SECONDS:
        warnings.append(f"The TLS certificate {path} expires at {ends:%Y-%m-%d %H:%M} UTC.")
    try:
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = names.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        dns = []
    return Judged(frozenset(name.lower() for name in dns if "*" not in name), tuple(warnings))


def _bare_context() -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # TLS 1.2 and up, as Python has it
    made.set_alpn_protocols(["http/1.1"])
    return made


def _load(into: ssl.SSLContext, pair: Pair) -> None:
    asked: list[bool] = []

    def passphrase() -> str:
        asked.append(True)
        return ""

    try:
        into.load_cert_chain(pair.cert, pair.key, password=passphrase)
    except ssl.SSLError as error:
        raise _unusable(error, pair, asked_passphrase=bool(asked)) from None
    except OSError as error:
        raise BadInput(
            f"The TLS files {pair.cert} and {pair.key} cannot be read: {error.strerror}.", "Mend their permissions."
        ) from None


def _unusable(error: ssl.SSLError, pair: Pair, *, asked_passphrase: bool) -> BadInput:
    if asked_passphrase:
        return BadInput(
            f"The TLS key {pair.key} is locked with a passphrase.",
            f"Write an unlocked one, for your eyes only: `openssl pkey -in {pair.key} -out FILE`.",
        )
    if error.reason == "KEY_VALUES_MISMATCH":
        return BadInput(
            f"The TLS key {pair.key} is not that of the certificate {pair.cert}.",
            "Give the two that belong together; the server's own certificate comes first in its file.",
        )
    if error.reason in {"NO_START_LINE", None, "UNSUPPORTED"} or "PEM" in str(error):
        return BadInput(f"{pair.key} holds no private key in {_PEM}.", "Give --tls-key the certificate's key.")
    why = (error.reason or str(error)).lower().replace("_", " ")
    return BadInput(f"The TLS files {pair.cert} and {pair.key} cannot be used: {why}.", "Have them made anew.")
