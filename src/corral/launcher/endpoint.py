"""The endpoint that a head serves: gateway, keys, certificate and usage, from start to stop; knows no deployment."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from corral.api.app import AdminApi
from corral.cluster.endpoint import EndpointSettings
from corral.gateway import errors, routes
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.forwarding import HEARTBEAT_SECONDS
from corral.gateway.front import BODY_LIMIT, FrontSettings
from corral.gateway.keyring import Keyring
from corral.gateway.record import Record
from corral.gateway.relay.relay import IDLE_SECONDS
from corral.gateway.server import Gateway
from corral.gateway.wire.sockets import is_reached
from corral.gateway.wire.tls import Judged, Pair, Renewal, context, judge
from corral.launcher.accessfile import access_file
from corral.launcher.keys import KeyWatch
from corral.store.database import home
from corral.store.keys import KeyStore
from corral.store.settings import remember_endpoint
from corral.store.usage import Counts, UsageStore, day_of
from corral.store.usagebook import UsageBook

HOST: Final = "127.0.0.1"
PORT: Final = 8000
_RENEWAL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What runs."""

    host: str
    gateway: Gateway
    usage: UsageBook


@asynccontextmanager
async def serve(settings: EndpointSettings, *, unkeyed: bool) -> AsyncGenerator[Endpoint]:
    """Serve until the block is left; BadInput when it cannot be served as it was said.

    `unkeyed`: let other machines reach it though nobody is asked for a key.
    """
    host = settings.host or HOST
    pair = _pair(settings)
    keyring = Keyring(rule=settings.key_required or "if-any", reached=is_reached(host), forced=unkeyed)
    log = access_file(home() / "logs") if settings.access_log else nullcontext()
    with KeyStore(time.time) as store, log:
        watch = KeyWatch(store, keyring)
        watch.look()  # before anybody can ask
        judged = None if pair is None else judge(pair, time.time())
        live = None if pair is None else context(pair)
        for warning in () if judged is None else judged.warnings:
            sys.stderr.write(f"{warning}\n")
        gateway = Gateway(
            _front(settings, judged),
            allow_unkeyed=unkeyed,
            keys=keyring,
            ssl=live,
            tls=pair,
            mounts={routes.API: AdminApi().answer},
            desk=_desk(settings),
            workers=settings.workers or 0,
        )
        tasks = [asyncio.create_task(watch.run(), name="keys")]
        if pair is not None and live is not None:
            tasks.append(asyncio.create_task(_renew(Renewal(pair, live), gateway), name="tls"))
        usage = UsageBook(time.time, last_used=keyring.taken_used)
        gateway.admission.on_record = partial(_note, usage)
        try:
            with UsageStore() as used:
                gateway.admission.charge(used.tokens_of_day(day_of(time.time())))
            await gateway.start(host, PORT if settings.port is None else settings.port)
            remember_endpoint(settings)
            yield Endpoint(host, gateway, usage)
        finally:
            await gateway.stop()
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await asyncio.to_thread(usage.close)


def _note(usage: UsageBook, record: Record, wall_time: float) -> None:
    """Count a request that was for an engine; one that came without a good key is nobody's."""
    if record.route not in routes.FORWARDED or record.code == errors.INVALID_KEY:
        return
    failed = not record.cancelled and (bool(record.code) or record.status >= 400)
    counts = Counts(
        1,
        int(failed),
        int(record.cancelled),
        record.prompt_tokens,
        record.cached_tokens,
        record.output_tokens,
        record.seconds - record.waited,
    )
    usage.add(record.key, record.model, counts, wall_time)


def _names(settings: EndpointSettings, judged: Judged | None) -> frozenset[str]:
    """The names by which browsers may reach it: those that somebody said, and those of the certificate."""
    said = frozenset(name.lower() for name in settings.host_names or ())
    return said if judged is None else said | judged.names


def _desk(settings: EndpointSettings) -> DeskSettings:
    said: dict[str, Any] = {
        "queue_limit": settings.queue,
        "longest_wait": settings.patience,
        "longest_load": settings.load_patience,
    }
    return DeskSettings(**{name: value for name, value in said.items() if value is not None})


def _front(settings: EndpointSettings, judged: Judged | None) -> FrontSettings:
    return FrontSettings(
        body_limit=settings.body_limit or BODY_LIMIT,
        heartbeat=settings.heartbeat or HEARTBEAT_SECONDS,
        idle_seconds=settings.idle_stream or IDLE_SECONDS,
        host_names=_names(settings, judged),
        access_log=bool(settings.access_log),
    )


def _pair(settings: EndpointSettings) -> Pair | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Pair(Path(settings.tls_cert), Path(settings.tls_key))


async def _renew(renewal: Renewal, gateway: Gateway) -> NoReturn:
    while True:
        await asyncio.sleep(_RENEWAL_SECONDS)
        if renewal.look():
            gateway.reconfigure()
