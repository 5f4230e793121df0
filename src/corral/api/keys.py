"""The admin API's work on keys; knows no HTTP."""

from typing import Any

from corral import credentials
from corral.api.call import Call
from corral.api.values import KeyChange, KeyMade, KeyPage, KeyQuery, KeyView, NewKey
from corral.store.keys import KeyStore
from corral.store.keyvalues import Key, Limits


def list_keys(call: Call[KeyQuery, None]) -> KeyPage:
    """List keys."""
    query = call.query
    with KeyStore(call.clock, call.folder) as store:
        keys = store.listed(revoked=query.revoked == "true", limit=query.limit + 1, before=query.before)
        asked = store.configured()
    shown = tuple(_view(key, call) for key in keys[: query.limit])
    return KeyPage(keys=shown, asked=asked, next=shown[-1].id if len(keys) > query.limit else None)


def create_key(call: Call[Any, NewKey]) -> KeyMade:
    """Make a key; its secret is given once."""
    new, secret = call.body, credentials.new_secret()
    limits = Limits.model_validate({field: getattr(new, field) for field in Limits.model_fields})
    with KeyStore(call.clock, call.folder) as store:
        made = store.create(new.name, secret, limits=limits, expires=_moment(call, new.expires_in), admin=new.admin)
    return KeyMade(key=_view(made, call), secret=secret)


def show_key(call: Call[Any, None]) -> KeyView:
    """Show a key, called by its id or its name."""
    with KeyStore(call.clock, call.folder) as store:
        return _view(store.get(call.path["key"]), call)


def change_key(call: Call[Any, KeyChange]) -> KeyView:
    """Change what a key may do."""
    fields: dict[str, Any] = {field: getattr(call.body, field) for field in call.body.model_fields_set}
    if "expires_in" in fields:
        fields["expires"] = _moment(call, fields.pop("expires_in"))
    with KeyStore(call.clock, call.folder) as store:
        return _view(store.change(call.path["key"], **fields), call)


def revoke_key(call: Call[Any, None]) -> KeyView:
    """Revoke a key, for good; one that is revoked already stays as it is."""
    with KeyStore(call.clock, call.folder) as store:
        return _view(store.revoke(call.path["key"]), call)


def _moment(call: Call[Any, Any], from_now: float | None) -> float | None:
    return None if from_now is None else call.clock() + from_now


def _view(key: Key, call: Call[Any, Any]) -> KeyView:
    return KeyView(**key.model_dump(), status=key.status_at(call.clock()))
