"""Who asks, and whether a path is open to them: from a request's headers to a key; pure, and knows no database.

Keys are looked up by the digest of their secret. Several ways to hand one over are known, because clients differ; what
they say must be one and the same secret, so that no two readers of a request can take it for two people's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import msgspec

from corral import credentials
from corral.gateway import errors, routes
from corral.gateway.desk.values import KeyLimits

Rule: TypeAlias = Literal[
    "if-any",  # a key is needed as soon as there is any, revoked or not
    "always",  # a key is needed, and while there is none nobody comes in
    "never",  # nobody is asked; who shows a good key is counted under it
]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]  # names in lower case, as ASGI has them

_AUTHORIZATION: Final = b"authorization"
_BARE: Final = frozenset((b"x-api-key", b"api-key"))  # Anthropic's and Azure's clients
_BEARER: Final = b"bearer"
_BLANK: Final = b" \t"
_OPEN: Final = frozenset((routes.HEALTH, routes.READY))


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks."""

    id: str  # the key's; empty: nobody was asked for one
    admin: bool = False
    limits: KeyLimits = field(default_factory=lambda: KeyLimits(id=""))

    def may_see(self, model: str) -> bool:
        """Whether this key may use a model of this name."""
        return self.limits.models is None or model in self.limits.models


ANONYMOUS: Final = Identity("")


@dataclass(frozen=True, slots=True)
class Entry:
    """One secret's digest, and whose it is."""

    digest: bytes
    identity: Identity
    until: float | None = None  # seconds since the epoch; None: for ever


class KeyringState(msgspec.Struct, frozen=True, kw_only=True):
    """A keyring as plain data: digests, no secrets."""

    may_be_open: bool
    rule: Rule
    configured: bool
    entries: tuple[Entry, ...]


class Keyring:
    """All keys, replaced as a whole when one changes.

    `reached`: from other machines too. Then nobody comes in without a key, whatever becomes of the keys, unless
    `forced`. `rule` says when one is needed.
    """

    def __init__(self, *, rule: Rule = "if-any", reached: bool = False, forced: bool = False) -> None:
        self._rule: Rule = rule
        self._may_be_open = rule != "always" and (forced or not reached)
        self._configured = False
        self._entries: Mapping[bytes, Entry] = {}
        self._used: dict[str, float] = {}
        self.on_change: Callable[[], None] | None = None
        self.version = 0  # counts replacements

    def replace(self, entries: Iterable[Entry], *, configured: bool) -> None:
        """Take these keys for all there are. `configured`: whether any is remembered, be it a revoked one."""
        self._entries = {entry.digest: entry for entry in entries}
        self._configured = configured
        self.version += 1
        if self.on_change is not None:
            self.on_change()

    def state(self) -> "KeyringState":
        """All that another process must know to ask for the same keys."""
        return KeyringState(
            may_be_open=self._may_be_open,
            rule=self._rule,
            configured=self._configured,
            entries=tuple(self._entries.values()),
        )

    def load(self, state: "KeyringState") -> None:
        """Be as another process's keyring is."""
        self._may_be_open, self._rule = state.may_be_open, state.rule
        self.replace(state.entries, configured=state.configured)

    def note_use(self, key: str, now: float) -> None:
        """Note that a key was used, in another process. `now`: seconds since the epoch."""
        if key:
            self._used[key] = now

    def limits(self) -> Mapping[str, KeyLimits]:
        """What each key may do, by its id."""
        return {entry.identity.id: entry.identity.limits for entry in self._entries.values()}

    @property
    def guarded(self) -> bool:
        """Whether keys keep out who has none, so that other machines may reach it."""
        return self._rule == "always" or (self._rule == "if-any" and self._configured)

    @property
    def open(self) -> bool:
        """Whether nobody is asked for a key."""
        return self._may_be_open and (self._rule == "never" or not self._configured)

    def identify(self, headers: Headers, now: float) -> Identity | None:
        """Who asks; None when a key is needed and no good one came. `now`: seconds since the epoch."""
        if self._entries:
            secrets = _presented(headers)
            entry = self._find(secrets.pop()) if len(secrets) == 1 else None
            if entry is not None and (entry.until is None or now < entry.until):
                self._used[entry.identity.id] = now
                return entry.identity
        return ANONYMOUS if self.open else None

    def refusal(self, headers: Headers) -> errors.ApiError:
        """What to answer when `identify` gave None."""
        secrets = _presented(headers)
        if not secrets:
            return errors.no_key() if self._configured else errors.no_key_yet()
        if len(secrets) > 1:
            return errors.several_keys()
        # Whoever knows the secret may know that its time is over.
        return errors.expired_key() if self._find(secrets.pop()) is not None else errors.wrong_key()

    def taken_used(self) -> Mapping[str, float]:
        """When keys were last used since the last call, by id, in seconds since the epoch."""
        used, self._used = self._used, {}
        return used

    def _find(self, secret: bytes) -> Entry | None:
        return self._entries.get(credentials.digest(secret)) if len(secret) <= credentials.LONGEST else None


def is_open(path: str) -> bool:
    """Whether a path is answered without a key: that of liveness, and of readiness (which then says no more)."""
    return path in _OPEN


def is_admins(path: str) -> bool:
    """Whether a path is for admin keys alone."""
    return path == routes.API or path.startswith(routes.API + "/")


def may_administer(identity: Identity, peer: str) -> bool:
    """Whether they may use /api: an admin key; or, where nobody is asked for one, a program on this machine."""
    return identity.admin or (not identity.id and peer in {"127.0.0.1", "::1"})


def _presented(headers: Headers) -> set[bytes]:
    """The secrets that a request shows: one, if it is an honest one. Other schemes of Authorization are not ours."""
    found: set[bytes] = set()
    for name, value in headers:
        if name == _AUTHORIZATION:
            scheme, _, secret = value.strip(_BLANK).partition(b" ")
            if scheme.lower() == _BEARER:
                found.add(secret.strip(_BLANK))
        elif name in _BARE:
            found.add(value.strip(_BLANK))
    found.discard(b"")
    return found
