"""What the table knows of a model, in the words of the desk; pure."""

from corral.gateway import table as known
from corral.gateway.desk.serving import Failed, Loading, Ready, ServedModel, State, Unloaded
from corral.gateway.table import Table


def served(table: Table, name: str) -> ServedModel | None:
    """The model as the desk serves it; None when there is none of this name."""
    state = table.get(name)
    if state is None:
        return None
    replicas = table.serving(name)
    return ServedModel(
        name=name,
        state=_state(state, table, name),
        aliases=tuple(alias for alias, meant in table.aliases().items() if meant == name),
        fallbacks=table.fallback(name),
        embeddings=any(replica.embeddings for replica in replicas) if replicas else None,
    )


def _state(state: known.State, table: Table, name: str) -> State:
    match state:
        case known.Ready():
            return Ready(table.serving(name))
        case known.Loading(stage, fraction, seconds):
            return Loading(stage, fraction, seconds)
        case known.Failed(cause, seconds):
            return Failed(cause, seconds)
        case known.Unloaded():
            return Unloaded()
