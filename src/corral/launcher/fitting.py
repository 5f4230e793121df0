"""Says whether an offered model fits beside what is held, and where; decides nothing and launches nothing."""

from collections.abc import Mapping

from corral.errors import CorralError
from corral.launcher.ledger import Ledger
from corral.launcher.node import NodeFacts
from corral.launcher.planning import place
from corral.models.values import ModelFacts
from corral.store.values import Holding, Offered


class Fitting:
    """All replicas of one model on the machines as they were just seen. Called, it is the `Room` of the rules."""

    def __init__(
        self,
        offer: Offered,
        model: ModelFacts,
        facts: Mapping[str, NodeFacts],
        ledger: Ledger,
        deployments: Mapping[str, tuple[str, ...]],
    ) -> None:
        """`ledger` is a copy that nobody changes; `deployments` are those of each model that may leave."""
        self._offer = offer
        self._model = model
        self._facts = facts
        self._ledger = ledger
        self._deployments = deployments
        self._known: dict[frozenset[str], str] = {}
        self.holds: dict[str, tuple[Holding, ...]] = {}  # by deployment, as they were last found to fit

    def __call__(self, leaving: frozenset[str]) -> str:
        """Why it does not fit once these models have left; empty when it does."""
        if leaving not in self._known:
            self._known[leaving] = self._try(leaving)
        return self._known[leaving]

    def _try(self, leaving: frozenset[str]) -> str:
        gone = frozenset(name for model in leaving for name in self._deployments.get(model, ()))
        holds: dict[str, tuple[Holding, ...]] = {}
        for request in self._offer.requests:
            before = tuple(hold for some in holds.values() for hold in some)
            held = self._ledger.others(request.name, request.public, without=gone, extra=before)
            try:
                holds[request.name] = place(request, self._model, self._facts, "trial-0", held, quick=True).holds
            except CorralError as error:
                return error.cause
        self.holds = holds
        return ""
