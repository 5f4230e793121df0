"""How `corral up` serves: from its options to the endpoint's settings, and what is said of it; knows no model."""

import time
from pathlib import Path
from typing import Final

from corral.cli.console import stderr
from corral.cluster.endpoint import EndpointSettings
from corral.errors import BadInput
from corral.gateway.wire.tls import Pair, judge
from corral.launcher.daemon import HeadAddress
from corral.store.keys import KeyStore

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def said(host: str | None, port: int | None, tls_cert: str, tls_key: str) -> EndpointSettings:
    """What the options say; BadInput for a certificate that cannot serve. Warnings are printed."""
    if bool(tls_cert) != bool(tls_key):
        raise BadInput("TLS needs a certificate and its key.", "Give both --tls-cert and --tls-key.")
    if not tls_cert:
        return EndpointSettings(host=host, port=port)
    pair = Pair(Path(tls_cert).absolute(), Path(tls_key).absolute())
    for warning in judge(pair, time.time()).warnings:
        stderr.print(f"[yellow]warning:[/] {warning}", soft_wrap=True)
    return EndpointSettings(host=host, port=port, tls_cert=str(pair.cert), tls_key=str(pair.key))


def asks_for_keys() -> bool:
    """Whether there are keys, so that the endpoint asks for one."""
    with KeyStore(time.time) as store:
        return store.configured()


def notes(head: HeadAddress, *, keyed: bool) -> list[str]:
    """What somebody who has just started it should know."""
    if head.host in LOOPBACK:
        return []
    if not keyed:
        return ["Other machines can use it, and nobody is asked for a key."]
    return [] if head.tls else ["Other machines reach it, and keys and prompts travel in the clear: see --tls-cert."]


def curl(head: HeadAddress, body: str, *, keyed: bool) -> str:
    """A command that asks it something."""
    key = ' -H "Authorization: Bearer $CORRAL_KEY"' if keyed else ""
    return f"curl {head.url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'"
