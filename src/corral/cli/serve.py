"""`corral up -c FILE` where the file names models: offers them, launches what is to be there at once; as `up` else."""

import sys
import time
from pathlib import Path
from typing import Final

from rich.markup import escape

from corral.cli.console import console, print_json, stderr
from corral.cli.follow import LOOK_SECONDS, HeadKeeper, follow
from corral.cli.serving import asks_for_keys, notes, options, said
from corral.cli.stay import Interrupted, Interrupts, stay_offered, withdraw
from corral.cli.up import Asked
from corral.cluster.values import Cluster
from corral.errors import BadInput, CorralError
from corral.launcher.daemon import HeadAddress, ensure_head
from corral.launcher.offering import loaded_at_once, offered_by
from corral.store.state import Store
from corral.store.values import LIVE, DeploymentRequest, Offered

# What the cluster file says for each model.
_IN_FILE: Final = ("name", "engine", "executor", "layout", "nodes", "context", "dtype", "threads")


def run_serve(asked: Asked, cluster: Cluster) -> None:
    """Offer the file's models, or the one that is named; in the foreground stay until Ctrl-C, which ends them."""
    _check(asked)
    folder = Path(asked.cluster or ".").absolute().parent
    offers = offered_by(cluster, folder)
    at_once = loaded_at_once(offers)
    endpoint = said(asked.cluster, options(asked.host, asked.port, asked.tls_cert, asked.tls_key))
    interrupts = Interrupts()

    def start() -> HeadAddress:
        return ensure_head(endpoint, unkeyed=asked.allow_unkeyed)

    with Store(time.time) as store:
        start()
        before = {offer.name: offer for offer in store.offers()}
        if asked.model:
            # Where the whole file is offered, this loads one of its models; else it is offered without the others.
            offers = at_once = tuple(
                offer if before.get(offer.name) == offer else _alone(offer)
                for offer in offers
                if offer.name == asked.model
            )
        names = tuple(offer.name for offer in offers)
        store.offer(*offers, load=_not_there(store, at_once))
        keeper = HeadKeeper(store, start)
        try:
            loading = [request.name for offer in at_once for request in offer.requests]
            follow(store, loading, keeper, interrupts.pause, quiet=asked.as_json)
            while not store.offers_seen(start().pid):  # who is told that they can be asked for may ask at once
                keeper.look()
                interrupts.pause(LOOK_SECONDS)
            _tell(offers, at_once, start(), asked)
            if not asked.detach and not (asked.model and names[0] in before):
                stay_offered(store, names, keeper, interrupts.pause)
        except Interrupted:
            stderr.print(f"\nending {escape(', '.join(names))} on every node ...")
            withdraw(store, names, interrupts.pause)
            raise SystemExit(130) from None
        except CorralError:
            withdraw(store, [name for name in names if name not in before], time.sleep)
            raise


def _alone(offer: Offered) -> Offered:
    """A model of the file that is offered without the others: it cannot fall back on them, nor do their rules count."""
    return offer.model_copy(update={"fallback": (), "min_loaded": 0})


def _check(asked: Asked) -> None:
    given = [name for name in _IN_FILE if getattr(asked, name)] + (["replicas"] if asked.replicas > 1 else [])
    if given:
        raise BadInput(
            f"--{given[0]} was given, but the cluster file says that for each of its models.",
            "Write it into the file's section `models`.",
        )


def _not_there(store: Store, offers: tuple[Offered, ...]) -> tuple[DeploymentRequest, ...]:
    """What has to be launched yet: the same command again takes up what runs already."""
    wanted = [request for offer in offers for request in offer.requests]
    return tuple(r for r in wanted if (known := store.get(r.name)) is None or known.state not in LIVE)


def _tell(offers: tuple[Offered, ...], at_once: tuple[Offered, ...], head: HeadAddress, asked: Asked) -> None:
    """Say which models answer, and which are loaded when they are asked for."""
    loaded = {offer.name for offer in at_once}
    if asked.as_json:
        models = [{"name": offer.name, "loaded": offer.name in loaded, "pinned": offer.pinned} for offer in offers]
        print_json({"schema": "corral.up/1", "base_url": f"{head.url}/v1", "models": models})
        sys.stdout.flush()
        return
    count = "1 model" if len(offers) == 1 else f"{len(offers)} models"
    console.print(f"\n[bold green]{count}[/] at [bold]{head.url}/v1[/]")
    for offer in offers:
        also = f" (also {', '.join(offer.aliases)})" if offer.aliases else ""
        console.print(f"  {escape(offer.name + also)}: {'ready' if offer.name in loaded else 'loads when asked'}")
    for note in notes(head, keyed=asks_for_keys()):
        console.print(f"  [yellow]{note}[/]", soft_wrap=True)
    console.print(f"  {'`corral down` ends them' if asked.detach else 'Ctrl-C ends them'}", style="dim")
