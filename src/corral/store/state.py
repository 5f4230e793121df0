"""Reads and writes deployments, their progress and events in the database; decides nothing about them."""

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self
from urllib.parse import quote

from pydantic import ValidationError

from corral.errors import CorralError, DoesNotFit
from corral.store import events, offers
from corral.store.database import connect, home
from corral.store.values import (
    LIVE,
    TRANSITIONS,
    Deployment,
    DeploymentRequest,
    Desired,
    Detail,
    Event,
    Offered,
    Progress,
    State,
)


class Store:
    """The one place for what must outlive a process; every write is durable when the method returns.

    `clock` gives seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float], folder: Path | None = None) -> None:
        self.folder = folder or home()
        self._clock = clock
        self._database = connect(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def logs(self, deployment: str) -> Path:
        """The folder with a deployment's logs, one file a rank; a name with a slash is one folder too.

        The head's own log lies beside them as `head.log`; a dot in a name is written in another way.
        """
        return self.folder / "logs" / quote(deployment, safe="").replace(".", "%2E")

    def request(self, *wanted: DeploymentRequest) -> None:
        """Ask for deployments to run, all or none. DoesNotFit when one of such a name already does.

        What an earlier one left on nodes of the cluster stays written down, to be ended before anything starts there.
        """
        with self._database.transaction():
            for one in wanted:
                self._request(one)

    def _request(self, wanted: DeploymentRequest) -> None:
        now, known = self._clock(), self.get(wanted.name)
        if known is not None and known.state in LIVE:
            raise DoesNotFit(
                f"A deployment named {wanted.name} is already {known.state}.",
                f"See `corral status`, end it with `corral down {wanted.name}`, or choose another --name.",
            )
        if known is not None and (stranded := _stranded(known, wanted)):
            raise DoesNotFit(
                f"What an earlier {wanted.name} left on {stranded} could not be ended yet.",
                f"When {stranded} is back, run `corral down {wanted.name}`; or choose another --name.",
            )
        self._database.execute("DELETE FROM progress WHERE deployment = ?", (wanted.name,))
        self._database.execute(
            "INSERT OR REPLACE INTO deployments (name, request, desired, state, detail, created, changed) "
            "VALUES (?, ?, 'running', 'queued', ?, ?, ?)",
            (wanted.name, wanted.model_dump_json(), _begin(known, wanted).model_dump_json(), now, now),
        )

    def offer(self, *offered: Offered, load: Iterable[DeploymentRequest] = ()) -> None:
        """Offer models, and ask for these deployments of them to run; all or none.

        DoesNotFit when one of these names is offered with other settings, or is to be loaded and lives already.
        """
        with self._database.transaction():
            offers.add(self._database, offered, self._clock())
            self.request(*load)

    def launch(self, offered: Offered) -> bool:
        """Ask for a model to run that is offered; False when it is not any more. DoesNotFit as with `request`."""
        with self._database.transaction():
            if offered not in self.offers():
                return False
            self.request(*offered.requests)
        return True

    def offers(self) -> tuple[Offered, ...]:
        """The models that are offered, loaded or not, in the order in which they were first."""
        return offers.all_of(self._database)

    def offers_mark(self) -> tuple[int, float]:
        """What changes whenever the offers do."""
        return offers.mark(self._database)

    def offers_seen(self, head: int) -> bool:
        """Whether the head with this process id knows the offers as they are now."""
        return offers.seen(self._database, head)

    def note_offers_seen(self, head: int) -> None:
        """Say that the head with this process id knows the offers as they are now."""
        offers.note_seen(self._database, head)

    def withdraw(self, *names: str) -> None:
        """Offer these models no more; what runs of them runs on."""
        with self._database.transaction():
            offers.forget(self._database, names)

    def get(self, name: str) -> Deployment | None:
        """One deployment by its name."""
        row = self._database.execute("SELECT * FROM deployments WHERE name = ?", (name,)).fetchone()
        return None if row is None else _deployment(row)

    def standings(self) -> dict[str, tuple[State, float]]:
        """State and time of the last change of all that are remembered; cheap enough to ask again and again."""
        rows = self._database.execute("SELECT name, state, changed FROM deployments").fetchall()
        return {row["name"]: (row["state"], row["changed"]) for row in rows}

    def deployments(self) -> tuple[Deployment, ...]:
        """All that is remembered, oldest first."""
        rows = self._database.execute("SELECT * FROM deployments ORDER BY created, name").fetchall()
        return tuple(_deployment(row) for row in rows)

    def live(self) -> tuple[Deployment, ...]:
        """Those that run, or are wanted to; one that failed after it had served is wanted until somebody ends it."""
        marks = ", ".join("?" for _ in LIVE)
        rows = self._database.execute(
            f"SELECT * FROM deployments WHERE desired = 'running' OR state IN ({marks}) ORDER BY created, name",  # noqa: S608 - question marks only
            tuple(LIVE),
        ).fetchall()
        return tuple(_deployment(row) for row in rows)

    def want(self, name: str, desired: Desired) -> None:
        """Say what is wanted of a deployment."""
        self._database.execute(
            "UPDATE deployments SET desired = ?, changed = ? WHERE name = ?", (desired, self._clock(), name)
        )

    def end(self, name: str) -> None:
        """Say that a deployment is to end; one that left something behind on a node is tried again.

        One that has failed is forgiven: it counts as stopped.
        """
        with self._database.transaction():
            self.want(name, "stopped")
            known = self.get(name)
            if known is not None and known.state not in LIVE and known.detail.left:
                self.move(name, "stopping")
            elif known is not None and known.state == "failed":
                self.move(name, "stopped")

    def move(self, name: str, state: State, **detail: object) -> Deployment:
        """Change a deployment's state (checked against TRANSITIONS) and the given fields of its detail."""
        with self._database.transaction():
            known = self.get(name)
            if known is None:
                raise KeyError(name)
            if state != known.state and state not in TRANSITIONS[known.state]:
                msg = f"{name} cannot go from {known.state} to {state}"
                raise ValueError(msg)
            changed = known.model_copy(
                update={
                    "state": state,
                    "detail": Detail.model_validate(known.detail.model_dump() | detail),
                    "changed": self._clock(),
                }
            )
            self._database.execute(
                "UPDATE deployments SET state = ?, detail = ?, changed = ? WHERE name = ?",
                (changed.state, changed.detail.model_dump_json(), changed.changed, name),
            )
            if state != known.state:
                self.tell(name, f"deployment.{state}", f"{known.state} -> {state}")
        return changed

    def progress(self, name: str, step: Progress) -> None:
        """Remember how far a stage has come. Written often and worth little, so not waited for on the disk."""
        self._database.execute("PRAGMA synchronous = NORMAL")
        try:
            self._database.execute(
                "INSERT INTO progress (deployment, stage, subject, fraction, text, changed) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET fraction = excluded.fraction, text = excluded.text, "
                "changed = excluded.changed",
                (name, step.stage, step.subject, step.fraction, step.text, self._clock()),
            )
        finally:
            self._database.execute("PRAGMA synchronous = FULL")

    def progress_of(self, name: str) -> tuple[Progress, ...]:
        """How far each stage has come, in the order in which they began."""
        rows = self._database.execute(
            "SELECT stage, subject, fraction, text FROM progress WHERE deployment = ? ORDER BY rowid", (name,)
        ).fetchall()
        return tuple(Progress.model_validate(dict(row)) for row in rows)

    def tell(self, deployment: str | None, kind: str, text: str) -> None:
        """Write an event; the oldest ones fall out."""
        events.tell(self._database, self._clock(), deployment, kind, text)

    def events(self, limit: int = 100) -> tuple[Event, ...]:
        """The newest events, oldest first."""
        return events.newest(self._database, limit)

    def page_of_events(self, limit: int, before: int | None = None) -> tuple[tuple[int, Event], ...]:
        """Events by their numbers, newest first; `before`: only those with a smaller number."""
        return events.page(self._database, limit, before)


def _stranded(known: Deployment, wanted: DeploymentRequest) -> str:
    """A node with leftovers that the new cluster does not have at the same address; empty when there is none."""
    there = {node.name: node.address for node in wanted.cluster.nodes}
    before = {node.name: node.address for node in known.request.cluster.nodes}
    return next((name for name in known.detail.left if there.get(name) != before.get(name)), "")


def _begin(known: Deployment | None, wanted: DeploymentRequest) -> Detail:
    """What a new deployment knows at first: the ranks of an earlier one that could not be ended on its nodes."""
    if known is None:
        return Detail()
    took = known.detail.load_seconds if _same(known.request, wanted) else None
    names = {node.name for node in wanted.cluster.nodes} & set(known.detail.left)
    ranks = tuple(rank for rank in known.detail.ranks if rank.node in names)
    return Detail(identity=known.detail.identity if ranks else "", ranks=ranks, load_seconds=took)


def _same(one: DeploymentRequest, other: DeploymentRequest) -> bool:
    """Whether two requests ask for the same, whatever a cluster file says of its machines by now."""
    return one.model_copy(update={"cluster": other.cluster}) == other


def _deployment(row: sqlite3.Row) -> Deployment:
    # Another version may have written fields that this one does not know.
    try:
        return Deployment(
            request=DeploymentRequest.model_validate_json(row["request"], extra="ignore"),
            desired=row["desired"],
            state=row["state"],
            detail=Detail.model_validate_json(row["detail"], extra="ignore"),
            created=row["created"],
            changed=row["changed"],
        )
    except ValidationError as error:
        raise CorralError(
            f"What is written of the deployment {row['name']} cannot be read: {error.errors()[0]['msg']}.",
            "Use the version of Corral that wrote it, or point CORRAL_HOME to another folder.",
        ) from error
