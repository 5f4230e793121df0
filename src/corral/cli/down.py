"""`corral down`: says that deployments are to end, and waits until they have."""

import time

from rich.markup import escape

from corral.cli.console import print_json, stderr
from corral.cli.follow import wait_for_the_head, wait_stopped
from corral.errors import BadInput, NodeFailed
from corral.store.state import Store
from corral.store.values import Deployment


def run_down(names: tuple[str, ...], *, as_json: bool) -> None:
    """End the named deployments, or all; those that have ended already are no error."""
    with Store(time.time) as store:
        offered = [offer.name for offer in store.offers()]
        known = store.deployments()
        there = dict.fromkeys([*offered, *(d.serves for d in known), *(d.name for d in known)])
        unknown = [name for name in names if name not in there]
        if unknown:
            raise BadInput(
                f"There is no deployment named {unknown[0]}.", f"Those that are known: {', '.join(there) or 'none'}."
            )
        withdrawn = [name for name in offered if not names or name in names]
        store.withdraw(*withdrawn)  # first, so that none is loaded again
        known = store.deployments()
        # A model's name means all its replicas, a replica's own name that one.
        ending = [d for d in known if (not names or {d.name, d.serves} & set(names)) and d.state != "stopped"]
        for deployment in ending:
            store.end(deployment.name)
        ended, left = _wait(store, ending)
        wait_for_the_head(store)
        if as_json:
            more = {"withdrawn": withdrawn} if withdrawn else {}
            print_json({"schema": "corral.down/1", "ended": ended, "left": left} | more)
        elif withdrawn and not ending:
            stderr.print(f"{escape(', '.join(withdrawn))}: offered no more; nothing was loaded.")
        elif not ending:
            stderr.print("Nothing runs.")
        for name in ended if not as_json else ():
            stderr.print(f"{escape(name)} has ended.")
        for nodes, cause, remedy in left.values():
            raise NodeFailed(nodes, cause, remedy)


def _wait(store: Store, ending: list[Deployment]) -> tuple[list[str], dict[str, tuple[str, str, str]]]:
    """Wait for each to end; gives the names of those that did, and of the others where and why not."""
    ended: list[str] = []
    left: dict[str, tuple[str, str, str]] = {}
    for deployment in ending:
        detail = wait_stopped(store, deployment.name, time.sleep)
        if detail.left and detail.failure is not None:
            left[deployment.name] = (", ".join(detail.left), detail.failure.cause, detail.failure.remedy)
        else:
            ended.append(deployment.name)
    return ended, left
