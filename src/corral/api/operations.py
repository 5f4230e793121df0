"""What the admin API can do, as a table; pure data."""

from typing import Final

from corral.api import keys, reading
from corral.api import values as v
from corral.api.call import Operation

_KEYS: Final = "/api/keys"
_KEY: Final = "/api/keys/{key}"

OPERATIONS: Final = (
    Operation("GET", _KEYS, keys.list_keys, v.KeyPage, v.KeyQuery),
    Operation("POST", _KEYS, keys.create_key, v.KeyMade, v.NoQuery, v.NewKey, status=201),
    Operation("GET", _KEY, keys.show_key, v.KeyView, v.NoQuery),
    Operation("PATCH", _KEY, keys.change_key, v.KeyView, v.NoQuery, v.KeyChange),
    Operation("DELETE", _KEY, keys.revoke_key, v.KeyView, v.NoQuery),
    Operation("GET", "/api/usage", reading.read_usage, v.UsagePage, v.UsageQuery),
    Operation("GET", "/api/status", reading.read_status, v.StatusView, v.NoQuery),
    Operation("GET", "/api/events", reading.read_events, v.EventPage, v.EventQuery),
)
DESCRIPTION: Final = "/api/openapi.json"
