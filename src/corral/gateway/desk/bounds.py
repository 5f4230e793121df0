"""How long a request may wait for a model, what it will cost there, and why it cannot wait; knows no queue's order."""

from math import inf

from corral.gateway import errors
from corral.gateway.desk.models import Model
from corral.gateway.desk.rates import DECODE, PREFILL
from corral.gateway.desk.serving import Failed, Loading, Ready, Unloaded
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.desk.tickets import Ticket
from corral.gateway.desk.values import Outcome
from corral.gateway.errors import ApiError


def bound(ticket: Ticket, model: Model, settings: DeskSettings) -> float:
    """Seconds that it may wait in all."""
    most = settings.longest_wait if isinstance(model.state, Ready) else settings.longest_load
    asked = ticket.ask.patience
    return most if asked is None else min(asked, most)


def patience(ticket: Ticket, model: Model, settings: DeskSettings, now: float) -> float:
    """Seconds that it may still wait."""
    return ticket.arrived + bound(ticket, model, settings) - now


def estimate(ticket: Ticket, model: Model, now: float) -> None:
    """Note in the ticket what it will cost, for its place in the queue; that is put right when it ends."""
    answer = model.expected_answer(ticket)
    if model.replicas:
        state = model.replicas[0]
        state.estimate(ticket, answer, state.prefixes.known(ticket.ask.prefix), now)
        ticket.cost = ticket.prefill + ticket.decode
    else:
        ticket.cost = ticket.ask.prompt_tokens / PREFILL + answer / DECODE


def work_of(ticket: Ticket, outcome: Outcome) -> float:
    """Seconds of an engine's work that a request took."""
    if outcome.end in {"unreachable", "busy"} or ticket.replica is None:
        return 0.0
    if outcome.output_tokens is None:
        return ticket.cost
    return ticket.prefill + outcome.output_tokens * ticket.replica.rates.tpot(ticket.streams)


def untried(ticket: Ticket, model: Model) -> bool:
    """Whether the model has a replica that it was not sent to yet."""
    return not ticket.tried or any(state.replica.id not in ticket.tried for state in model.replicas)


def refusal(ticket: Ticket, model: Model, settings: DeskSettings, now: float) -> ApiError:
    """Why it cannot wait for this model, or not any longer."""
    state = model.state
    if isinstance(state, Loading):
        return errors.still_loading(model.name, state.stage, state.fraction, model.seconds_left(now))
    if isinstance(state, Unloaded):
        return errors.still_loading(model.name, "it waits for its turn to load", None, state.seconds)
    if isinstance(state, Failed):
        return errors.failed(model.name, state.cause, state.seconds)
    if not model.replicas or not model.trusted():
        back = model.back_in(now)
        return errors.no_replica(model.name, 1.0 if back == inf else back)
    if not untried(ticket, model):
        return errors.all_tried(model.name)
    return errors.server_busy(model.name, model.waits(ticket, now)[0], bound(ticket, model, settings))
