"""What the gateway itself has to say: the models and their states, as JSON; pure."""

import json
from collections.abc import Mapping

from corral.gateway.table import Failed, Loading, Ready, State, Unloaded


def models(listed: Mapping[str, State]) -> bytes:
    """OpenAI's list of models."""
    data = [_model(name, state) for name, state in listed.items()]
    return json.dumps({"object": "list", "data": data}).encode()


def model(name: str, state: State) -> bytes:
    """OpenAI's description of one model."""
    return json.dumps(_model(name, state)).encode()


def readiness(states: Mapping[str, State], *, in_full: bool) -> tuple[bool, bytes]:
    """Whether some deployment answers requests, and (`in_full`) the state of each."""
    ready = any(isinstance(state, Ready) for state in states.values())
    if not in_full:
        return ready, json.dumps({"ready": ready}).encode()
    deployments = {name: _state(state) for name, state in states.items()}
    return ready, json.dumps({"ready": ready, "deployments": deployments}).encode()


def _model(name: str, state: State) -> dict[str, object]:
    since = state.since if isinstance(state, Ready) else 0
    return {"id": name, "object": "model", "created": since, "owned_by": "corral"}


def _state(state: State) -> dict[str, object]:
    match state:
        case Loading(stage, fraction):
            return {"state": "loading", "stage": stage, "fraction": fraction}
        case Ready(_, since):
            return {"state": "ready", "since": since}
        case Failed(cause):
            return {"state": "failed", "cause": cause}
        case Unloaded():
            return {"state": "unloaded"}
