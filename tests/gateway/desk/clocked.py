"""A desk, and short words for what goes in and out of it."""

from corral.gateway.desk.desk import Desk
from corral.gateway.desk.serving import Ready, ServedModel, State
from corral.gateway.desk.settings import DeskSettings
from corral.gateway.desk.values import Ask, KeyLimits, Outcome, Replica

MIDNIGHT = 20_000 * 86400.0  # some day's beginning, Unix seconds


def replica(name: str = "r0", **fields) -> Replica:
    return Replica(id=name, base_url=f"http://{name}", served_name="m", **fields)


def ready(*replicas: Replica) -> Ready:
    return Ready(replicas or (replica(),))


def ask(model: str | None = "m", key: str = "", **fields) -> Ask:
    fields.setdefault("route", "/v1/chat/completions")
    return Ask(request_id="x", model=model, key=key, **fields)


def answered(seconds: float = 1.0, **fields) -> Outcome:
    return Outcome(end="answered", status=200, seconds=seconds, **fields)


class Clocked:
    """A desk with a clock that moves when told to."""

    def __init__(self, settings: DeskSettings | None = None) -> None:
        self.desk = Desk(settings)
        self.now = 1000.0

    def serve(self, state: State | None = None, name: str = "m", **fields) -> None:
        self.desk.serve(ServedModel(name=name, state=ready() if state is None else state, **fields), self.now)

    def keys(self, *limits: KeyLimits) -> None:
        self.desk.set_keys({each.id: each for each in limits})

    def arrive(self, asked: Ask | None = None, **fields):
        return self.desk.arrive(asked or ask(**fields), self.now, MIDNIGHT + self.now)

    def settle(self, grant, outcome: Outcome | None = None):
        self.desk.settle(grant.number, outcome or answered(), self.now)

    def again(self, grant, end="unreachable", status=0):
        return self.desk.again(grant.number, Outcome(end=end, status=status), self.now)

    def due(self):
        return self.desk.due(self.now)
