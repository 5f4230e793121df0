"""What the gateway itself has to say: the models and their states, as JSON; pure."""

import json
from collections.abc import Mapping

from corral.gateway.table import Failed, Loading, Ready, State


def models(ready: Mapping[str, Ready]) -> bytes:
    """OpenAI's list of the models that answer now."""
    return json.dumps({"object": "list", "data": [_model(name, state) for name, state in ready.items()]}).encode()


def model(name: str, state: Ready) -> bytes:
    """OpenAI's description of one model."""
    return json.dumps(_model(name, state)).encode()


def readiness(states: Mapping[str, State]) -> tuple[bool, bytes]:
    """Whether some deployment answers requests, and the state of each."""
    ready = any(isinstance(state, Ready) for state in states.values())
    deployments = {name: _state(state) for name, state in states.items()}
    return ready, json.dumps({"ready": ready, "deployments": deployments}).encode()


def _model(name: str, state: Ready) -> dict[str, object]:
    return {"id": name, "object": "model", "created": state.since, "owned_by": "corral"}


def _state(state: State) -> dict[str, object]:
    match state:
        case Loading(stage, fraction):
            return {"state": "loading", "stage": stage, "fraction": fraction}
        case Ready(_, since):
            return {"state": "ready", "since": since}
        case Failed(cause):
            return {"state": "failed", "cause": cause}
