"""Who may ask at all, before anything of a request's body is read: knows hosts, web pages and keys, no model."""

import time

from corral.gateway import errors, keyring, routes
from corral.gateway.keyring import Keyring
from corral.gateway.wire import browsers
from corral.gateway.wire.asgi import Exchange, Header


class Guard:
    """Checks exchanges against the keys and the host names by which this server may be called (lower case)."""

    def __init__(self, host_names: frozenset[str] = frozenset(), keys: Keyring | None = None) -> None:
        self.host_names = host_names
        self._keys = keys or Keyring()

    def check(self, exchange: Exchange) -> None:
        """Refuse what a foreign web page makes a browser send, and who has no key; ApiError."""
        host = exchange.headers.get(b"host", b"")
        # Where a key is asked for, a page behind a rebound name has none; and servers have names that nobody told.
        if self._keys.open and not browsers.host_allowed(host, self.host_names):
            raise errors.foreign_host(host.decode("latin-1"))
        origin = exchange.headers.get(b"origin")
        if origin is not None:
            if not browsers.origin_allowed(origin, host, self.host_names):
                raise errors.foreign_origin(origin.decode("latin-1"))
            if exchange.method != "OPTIONS":
                exchange.add_headers(browsers.cors(origin))
        if exchange.method != "OPTIONS":  # it is answered with methods alone; browsers ask it without a key
            self._ask_for_key(exchange)

    def _ask_for_key(self, exchange: Exchange) -> None:
        headers, path = exchange.scope["headers"], exchange.path
        exchange.identity = self._keys.identify(headers, time.time())
        if keyring.is_open(path):
            return
        if exchange.identity is None:
            raise self._keys.refusal(headers)
        client = exchange.scope.get("client")
        if keyring.is_admins(path) and not keyring.may_administer(exchange.identity, client[0] if client else ""):
            raise errors.permission_denied()


async def answer_options(exchange: Exchange, allowed: tuple[str, ...]) -> None:
    """Say which methods there are, and to a page that may ask, what it may send."""
    headers: list[Header] = [(b"allow", ", ".join(allowed).encode())]
    if (origin := exchange.headers.get(b"origin")) is not None:
        asked = exchange.headers.get(b"access-control-request-headers", b"")
        headers += browsers.preflight(origin, asked)
    await exchange.start(204, headers)
    await exchange.finish()


def check_method(exchange: Exchange, allowed: tuple[str, ...]) -> None:
    """Refuse a path that is none (no method is allowed) and a method that the path does not take."""
    if not allowed:
        raise errors.unknown_path(exchange.path, routes.FORWARDED | routes.READ)
    if exchange.method not in allowed:
        raise errors.wrong_method(exchange.method, exchange.route, allowed)
