"""How `corral up` serves: from its options to the endpoint's settings, and what is said of it; knows no model."""

import time
from pathlib import Path
from typing import Final

from rich.markup import escape

from corral.cli.console import stderr
from corral.cluster.endpoint import EndpointSettings
from corral.cluster.file import load
from corral.errors import BadInput
from corral.gateway.wire.tls import Pair, judge
from corral.launcher.daemon import HeadAddress
from corral.store.keys import KeyStore

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def said(cluster_file: str | None, options: EndpointSettings) -> EndpointSettings:
    """What the cluster file's `gateway` section says, but for what the options say.

    BadInput for a certificate that cannot serve; warnings of it are printed. Paths in the file count from its folder.
    """
    settings = options
    if cluster_file is not None:
        path = Path(cluster_file)
        settings = _from(path.absolute().parent, load(path).gateway).under(options)
    settings = _from(Path.cwd(), settings)
    if settings.tls_cert is not None and settings.tls_key is not None:
        for warning in judge(Pair(Path(settings.tls_cert), Path(settings.tls_key)), time.time()).warnings:
            stderr.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    return settings


def options(host: str | None, port: int | None, tls_cert: str, tls_key: str) -> EndpointSettings:
    """What the command's options say; BadInput when a certificate comes without its key."""
    if bool(tls_cert) != bool(tls_key):
        raise BadInput("TLS needs a certificate and its key.", "Give both --tls-cert and --tls-key.")
    return EndpointSettings(host=host, port=port, tls_cert=tls_cert or None, tls_key=tls_key or None)


def _from(folder: Path, settings: EndpointSettings) -> EndpointSettings:
    """The settings with whole paths."""
    if settings.tls_cert is None or settings.tls_key is None:
        return settings
    cert, key = (folder / Path(path).expanduser() for path in (settings.tls_cert, settings.tls_key))
    return settings.model_copy(update={"tls_cert": str(cert), "tls_key": str(key)})


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
