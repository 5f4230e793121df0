"""One request from its arrival to its end; knows nothing of how it is decided about.

A request is one `Ticket` all its way: while it waits in a queue, and while an engine runs it.
"""

from typing import TYPE_CHECKING

import msgspec

from corral.gateway.desk.serving import Loading, Unloaded
from corral.gateway.desk.values import Ask
from corral.gateway.desk.window import Span

if TYPE_CHECKING:
    from corral.gateway.desk.account import Account
    from corral.gateway.desk.models import Model
    from corral.gateway.desk.replicas import ReplicaState


class Ticket(msgspec.Struct, eq=False, kw_only=True):
    """A request at the desk. The front reads `number`, `ask`, `expected` and `progress`; the rest is the desk's."""

    number: int  # of the ticket; each grant has one of its own
    ask: Ask
    arrived: float
    account: "Account"
    asked: "Model"  # the model that the client named
    model: "Model"  # the one that it waits for or that answers: `asked` or a fallback
    priority: int = 0
    deadline: float = 0.0  # when its wait is over
    expected: float | None = None  # seconds that it was expected to wait when it began to; None: not known
    tried: tuple[str, ...] = ()  # replicas' ids
    chooses: bool = True  # it may wait for a full replica that knows its prompt, though another one is free
    choosy: bool = False  # it waits so

    # What its key was charged.
    request_span: Span | None = None
    token_span: Span | None = None
    reserved: int = 0  # tokens
    day: int = 0

    # Where it runs, and what was expected there. Seconds.
    replica: "ReplicaState | None" = None
    granted: float = 0.0
    trial: bool = False  # a breaker looks at how it ends
    streams: int = 0  # that ran there when it came, itself included
    backlog: float = 0.0  # that it found there
    prefill: float = 0.0
    decode: float = 0.0
    blocks: int = 0  # of its prompt that the replica was sent before
    known: float = 0.0  # tokens of them
    cost: float = 0.0  # prefill and decode
    charged: float = 0.0  # of that, what its key was charged when it was taken from the queue

    @property
    def progress(self) -> Loading | None:
        """How far the model is that it waits for; None where it waits for a place at an engine."""
        state = self.model.state
        if isinstance(state, Unloaded):
            return Loading("waiting to load", None, state.seconds)
        return state if isinstance(state, Loading) else None
