"""Opens one SSH connection and says in a sentence why it cannot; knows no command.

Host keys are compared with known-hosts files and nothing else: a key is never taken on trust at first sight, neither
silently nor by asking. Logins are by key file, agent or what ~/.ssh/config names; no password is ever asked or sent.
"""

import errno
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncssh

from corral.errors import NodeFailed
from corral.hosts.connection import Connection

CONNECT_SECONDS: Final = 10.0
LOGIN_SECONDS: Final = 20.0
# A peer that answers nothing for 15 s is gone: three unanswered requests, five seconds apart.
KEEPALIVE_SECONDS: Final = 5.0
KEEPALIVE_COUNT: Final = 3
SSH_PORT: Final = 22
USER_CONFIG: Final = "~/.ssh/config"
USER_KNOWN_HOSTS: Final = "~/.ssh/known_hosts"


@dataclass(slots=True)
class _Seen:
    """The host key that a server showed and that no known-hosts file holds."""

    key: asyncssh.SSHKey | None = None
    address: str = ""


class _Client(asyncssh.SSHClient):
    def __init__(self, seen: _Seen) -> None:
        self._seen = seen

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        """Remember the key for the message, and refuse it."""
        self._seen.key, self._seen.address = key, addr
        return False


async def connect(to: Connection) -> list[asyncssh.SSHClientConnection]:
    """Connect through its jump hosts; return the connections, the destination's last. NodeFailed says why not."""
    hop = to.hop()
    path = await connect(hop) if hop else []
    try:
        return [*path, await _connect(to, path[-1] if path else None)]
    except BaseException:
        for connection in reversed(path):
            connection.close()
        raise


async def _connect(
    to: Connection, tunnel: asyncssh.SSHClientConnection | None, *, any_type: bool = False
) -> asyncssh.SSHClientConnection:
    seen = _Seen()
    options = _options(to, seen, any_type=any_type)
    jump = {"tunnel": tunnel} if tunnel else {}  # left out, the user's own ProxyJump counts
    try:
        return await asyncssh.connect(to.address, options=options, config=None, **jump)
    except (ConnectionResetError, asyncssh.ConnectionLost, asyncssh.KeyExchangeFailed) as error:
        if not any_type and _known_keys(to, options, ""):
            # Only the types of the known keys were asked for; it may have another now: see it, for the message.
            return await _connect(to, tunnel, any_type=True)
        raise _unreachable(to, error) from error
    except asyncssh.HostKeyNotVerifiable as error:
        raise _host_key_refused(to, options, seen, error) from error
    except (asyncssh.Error, OSError) as error:
        raise _unreachable(to, error) from error


def _options(to: Connection, seen: _Seen, *, any_type: bool) -> asyncssh.SSHClientConnectionOptions:
    named: dict[str, Any] = {"username": to.user, "port": to.port}
    if to.key:
        named["client_keys"] = [str(_existing(to, to.key, "private key"))]
    if to.known_hosts:
        named["known_hosts"] = [str(_existing(to, to.known_hosts, "known-hosts file"))]
    if any_type:
        named["server_host_key_algs"] = "default"
    given = {word: value for word, value in named.items() if value is not None}
    given |= {
        "host": to.address,
        "config": [str(config)] if (config := Path(USER_CONFIG).expanduser()).is_file() else None,
        "client_factory": lambda: _Client(seen),
        "password_auth": False,
        "kbdint_auth": False,
        "connect_timeout": CONNECT_SECONDS,
        "login_timeout": LOGIN_SECONDS,
        "keepalive_interval": KEEPALIVE_SECONDS,
        "keepalive_count_max": KEEPALIVE_COUNT,
    }
    try:
        options = asyncssh.SSHClientConnectionOptions(**given)
        if options.known_hosts is None:  # `UserKnownHostsFile none`: for asyncssh that means any key is good
            options = asyncssh.SSHClientConnectionOptions(**given, known_hosts=b"")
    except asyncssh.KeyImportError as error:
        raise NodeFailed(
            to.name,
            f"The private key {to.key} for {to.name} cannot be used: {error}.",
            f"Load a key that has a passphrase into your agent with `ssh-add {to.key}` and leave `key` out.",
        ) from error
    except (OSError, ValueError, asyncssh.Error) as error:  # ConfigParseError is a ValueError
        raise NodeFailed(
            to.name, f"The SSH settings for {to.name} cannot be used: {error}.", "Correct ~/.ssh/config or that file."
        ) from error
    return options


def _existing(to: Connection, path: str, what: str) -> Path:
    found = Path(path).expanduser()
    if not found.is_file():
        raise NodeFailed(
            to.name, f"The {what} {path} for {to.name} does not exist.", "Correct its path in the cluster file."
        )
    return found


def _host_key_refused(
    to: Connection, options: asyncssh.SSHClientConnectionOptions, seen: _Seen, error: asyncssh.Error
) -> NodeFailed:
    file = to.known_hosts or USER_KNOWN_HOSTS
    expected = _known_keys(to, options, seen.address)
    if seen.key is None:  # revoked, or a certificate that is not trusted
        return NodeFailed(
            to.name, f"{to.name} ({to.address}) is not trusted: {error.reason}.", f"See what `ssh -v {to.target}` says."
        )
    shown = _fingerprint(seen.key)
    if expected:
        known = " or ".join(sorted({_fingerprint(key) for key in expected}))  # by name and by address: the same
        return NodeFailed(
            to.name,
            f"The host key of {to.name} ({to.address}) has changed: expected {known}, but it shows {shown}.",
            f"If you know why (a new installation), run `ssh-keygen -R '{to.entry}' -f {file}` and then "
            f"`ssh {to.target}` once; if you do not, someone may be in between.",
        )
    return NodeFailed(
        to.name,
        f"{to.name} ({to.address}) is unknown: its host key {shown} is not in {file}.",
        f"Run `ssh {to.target}` once and compare the fingerprint, or `ssh-keyscan {_scan(to)} >> {file}`.",
    )


def _fingerprint(key: asyncssh.SSHKey) -> str:
    return f"{key.get_algorithm()} {key.get_fingerprint()}"


def _scan(to: Connection) -> str:
    return f"-p {to.port} {to.address}" if to.port not in (None, 22) else to.address


def _known_keys(
    to: Connection, options: asyncssh.SSHClientConnectionOptions, address: str
) -> tuple[asyncssh.SSHKey, ...]:
    """List the host keys that the known-hosts files hold for a destination."""
    files: Any = options.known_hosts or str(Path(USER_KNOWN_HOSTS).expanduser())
    port = None if options.port == SSH_PORT else options.port
    try:
        return tuple(asyncssh.match_known_hosts(files, options.host or to.address, address, port)[0])
    except (OSError, ValueError):
        return ()


_BY_ERRNO: Final = {
    errno.ECONNREFUSED: (
        "refuses connections on its SSH port",
        "Start sshd on it (`systemctl start ssh`), or correct `port` in the cluster file.",
    ),
    errno.EHOSTUNREACH: (
        "cannot be reached: no route leads to it",
        "See whether it is on, cabled, and on this network.",
    ),
    errno.ENETUNREACH: (
        "is on a network that this machine has no route to",
        "Correct `address`, or name a `jump` host.",
    ),
    errno.ECONNRESET: ("cut the connection off before the login", "See sshd's log on it (`journalctl -u ssh`)."),
}


def _unreachable(to: Connection, error: Exception) -> NodeFailed:
    what, remedy = _reason(to, error)
    return NodeFailed(to.name, f"{to.name} ({to.address}) {what}.", remedy)


def _reason(to: Connection, error: Exception) -> tuple[str, str]:  # noqa: PLR0911 - one sentence an error
    if isinstance(error, asyncssh.PermissionDenied):
        key = f"the key {to.key}" if to.key else "any key of your agent and ~/.ssh"
        user = f"user {to.user}" if to.user else "its user"
        return (
            f"refuses {key} for {user}",
            f"Run `ssh-copy-id {f'-i {to.key} ' if to.key else ''}{to.target}`, or correct `user` and `key`.",
        )
    if isinstance(error, socket.gaierror):
        return "has a name that cannot be resolved", "Correct `address`, or put the name into DNS or /etc/hosts."
    if isinstance(error, TimeoutError):
        return (
            f"did not answer within {CONNECT_SECONDS:g} s",
            "See whether it is on, cabled, and not behind a firewall that drops packets.",
        )
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        return _BY_ERRNO[error.errno]
    if isinstance(error, asyncssh.ChannelOpenError):
        return f"cannot be reached from its jump host: {error.reason}", "See whether the jump host reaches it."
    if isinstance(error, asyncssh.ConnectionLost):
        return "ended the connection before the login", "See sshd's log on it (`journalctl -u ssh`)."
    text = error.reason if isinstance(error, asyncssh.Error) and error.reason else str(error)
    return f"cannot be reached by SSH: {text}", f"See what `ssh -v {to.target}` says."
