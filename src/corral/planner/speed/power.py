"""Watts of one device while it decodes or computes prompts; knows no node and no price."""

from typing import Final

from corral.catalog.devices import DeviceSpec

# Share of the way from idle to the limit that single-stream decoding draws. Fitted on `measured/`: GB10 34 to 46 W on
# its GPU by nvidia-smi, RTX 3090 within 3 % of a 220 W limit. Other kinds: the nearest of these two, unmeasured.
_DECODE_SHARE: Final = {"soc": 0.27, "consumer": 0.85, "workstation": 0.8, "datacenter": 0.65, "cpu": 0.9}
_IDLE_SHARE: Final = 0.07  # of the limit, where no source states what a device draws at idle
SPREAD: Final = 0.35  # a watt figure may be off by this share either way


def decode_watts(device: DeviceSpec, limit: float | None) -> float:
    """Watts of one device while decoding, never above its limit."""
    cap = min(limit or device.power_limit, device.power_limit)
    idle = device.power_idle if device.power_idle is not None else _IDLE_SHARE * device.power_limit
    wanted = idle + _DECODE_SHARE[device.kind] * (device.power_limit - idle)
    return min(cap, wanted)


def prefill_watts(device: DeviceSpec, limit: float | None) -> float:
    """Watts of one device while it computes prompts: at its limit, but on a chip whose limit CPU and GPU share."""
    cap = min(limit or device.power_limit, device.power_limit)
    return 0.6 * cap if device.kind == "soc" else cap
