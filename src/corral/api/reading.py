"""The admin API's work on what was used, what runs and what happened; changes nothing."""

from typing import Any

from corral import __version__
from corral.api.call import Call
from corral.api.values import (
    DeploymentView,
    EventPage,
    EventQuery,
    EventView,
    FailureView,
    StatusView,
    UsagePage,
    UsageQuery,
)
from corral.store.keys import UnknownKey
from corral.store.state import Store
from corral.store.usage import UsageStore, day_of
from corral.store.values import Deployment, Progress

_DAYS = 30


def read_usage(call: Call[UsageQuery, None]) -> UsagePage:
    """Sum up what was used, by key, model or day."""
    query = call.query
    since = query.since or day_of(call.clock() - _DAYS * 86_400)
    with UsageStore(call.folder) as store:
        ids = None if query.key is None else store.ids(query.key)
        if ids == ():
            raise UnknownKey("There is no key of that name or id.", "GET /api/keys?revoked=true lists what is known.")
        rows = store.report(
            query.by,
            since=since,
            before=query.before,
            keys=ids,
            model=query.model,
            limit=query.limit + 1,
        )
    shown = rows[: query.limit]
    more = query.by == "day" and len(rows) > query.limit
    return UsagePage(by=query.by, since=since, rows=shown, next=shown[-1].day if more else None)


def read_status(call: Call[Any, None]) -> StatusView:
    """Say how every deployment stands that has not ended."""
    with Store(call.clock, call.folder) as store:
        live = [known for known in store.deployments() if known.state != "stopped"]
        shown = tuple(_deployment(known, store.progress_of(known.name)) for known in live)
    return StatusView(version=__version__, deployments=shown)


def read_events(call: Call[EventQuery, None]) -> EventPage:
    """List what happened."""
    query = call.query
    with Store(call.clock, call.folder) as store:
        events = store.page_of_events(query.limit + 1, query.before)
    shown = tuple(EventView(id=number, **event.model_dump()) for number, event in events[: query.limit])
    return EventPage(events=shown, next=shown[-1].id if len(events) > query.limit else None)


def _deployment(known: Deployment, steps: tuple[Progress, ...]) -> DeploymentView:
    detail, failure = known.detail, known.detail.failure
    going = [step for step in steps if step.fraction != 1.0] or steps
    step = going[-1] if going and known.state == "launching" else None
    return DeploymentView(
        name=known.name,
        serves=known.serves,
        state=known.state,
        desired=known.desired,
        stage=None if step is None else step.stage,
        fraction=None if step is None else step.fraction,
        since=detail.ready_at if known.state == "ready" and detail.ready_at else known.changed,
        model=detail.model or known.request.model,
        engine=detail.engine,
        layout=detail.layout,
        nodes=detail.nodes,
        context=detail.context,
        memory=sum(detail.rss.values()),
        tokens_per_second=detail.tokens_per_second,
        failure=None if failure is None else FailureView(cause=failure.cause, remedy=failure.remedy),
    )
