"""`corral status` and `corral events`: what runs where, and what happened."""

import time
from datetime import datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from corral.cli.console import console, print_json
from corral.errors import ExitCode
from corral.launcher.daemon import running_head
from corral.store.state import Store
from corral.store.values import LIVE, Deployment, Offered
from corral.units import format_bytes, format_seconds

COLOURS = {"ready": "green", "failed": "red", "launching": "yellow", "stopping": "yellow", "queued": "yellow"}


def run_status(*, as_json: bool) -> None:
    """Print all deployments; the exit status is 1 when one has failed or does not serve."""
    head = running_head()
    with Store(time.time) as store:
        shown = [d for d in store.deployments() if d.state != "stopped"]
        there = {d.serves for d in shown}
        offers = store.offers()
        unloaded = [offer for offer in offers if offer.name not in there]
        if as_json:
            print_json(
                {
                    "schema": "corral.status/1",
                    "head": head.model_dump() | {"url": head.url} if head else None,
                    "deployments": [document(d) for d in shown],
                    "offers": [
                        offer.model_dump(mode="json", exclude={"request"})
                        | {"name": offer.name, "loaded": offer.name in there}
                        for offer in offers
                    ],
                }
            )
        else:
            console.print(f"Endpoint: {head.url}/v1 (process {head.pid})" if head else "No head runs.")
            if shown or unloaded:
                console.print(_table(shown, unloaded))
            else:
                console.print("No deployment. `corral up` launches one.")
            if head is None and (offers or any(d.state in LIVE for d in shown)):
                console.print("  try: the same `corral up` again takes up what still runs; `corral down` ends it.")
            for deployment in shown:
                if (failure := deployment.detail.failure) is not None:
                    console.print(f"{escape(deployment.name)}: {escape(failure.cause)}", soft_wrap=True)
                    console.print(f"  try: {escape(failure.remedy)}", soft_wrap=True)
        if any(d.state == "failed" or (d.state == "ready" and head is None) for d in shown):
            raise SystemExit(int(ExitCode.NO))


def document(deployment: Deployment) -> dict[str, Any]:
    """A deployment as JSON: what was asked stays in the database, how it stands is told."""
    detail = deployment.detail.model_dump(mode="json", exclude={"ranks"})
    ranks = [
        {"name": r.name, "node": r.node, "rss": deployment.detail.rss.get(r.name)} for r in deployment.detail.ranks
    ]
    return {
        "name": deployment.name,
        "serves": deployment.serves,
        "state": deployment.state,
        "desired": deployment.desired,
        **detail,
        "ranks": ranks,
    }


def _table(deployments: list[Deployment], unloaded: list[Offered]) -> Table:
    table = Table("model", "state", "since", "engine", "layout", "nodes", "memory", "speed", box=None, pad_edge=False)
    for deployment in deployments:
        detail = deployment.detail
        since = detail.ready_at if deployment.state == "ready" and detail.ready_at else deployment.changed
        speed = detail.tokens_per_second
        table.add_row(
            escape(deployment.name),
            f"[{COLOURS.get(deployment.state, 'white')}]{deployment.state}[/]",
            format_seconds(max(0.0, time.time() - since)),
            detail.engine,
            detail.layout,
            escape(", ".join(detail.nodes)),
            format_bytes(sum(detail.rss.values())) if detail.rss else "",
            f"{speed:.0f} tok/s" if speed else "",
        )
    for offer in unloaded:
        table.add_row(escape(offer.name), "[dim]unloaded[/]", "", "loads when asked")
    return table


def run_events(lines: int, *, as_json: bool) -> None:
    """Print the newest events, oldest first."""
    with Store(time.time) as store:
        told = store.events(lines)
    if as_json:
        print_json({"schema": "corral.events/1", "events": [event.model_dump() for event in told]})
        return
    for event in told:
        at = datetime.fromtimestamp(event.at).astimezone().isoformat(sep=" ", timespec="seconds")
        console.print(
            f"{at}  {event.deployment or '-':<20} {event.kind:<22} {event.text}", markup=False, soft_wrap=True
        )
