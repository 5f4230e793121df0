"""Sizes, rates, durations and power, read from and written for people; knows nothing of what they measure.

`parse_*` read what a person wrote and say in a ValueError which units they know; `format_*` write for reading, rounded;
`exact_*` write for files: parsing their text gives the same number again.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3

# Bytes. Decimal and binary prefixes differ on purpose: a disk's "1 TB" is 10^12 bytes, memory's "1 TiB" is 2^40.
_BYTES: Final = {
    "B": 1,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1024**4,
}  # fmt: skip
# Bytes a second. Networks are sold in bits ("200 Gb/s"), memory in bytes ("273 GB/s").
_BYTES_PER_SECOND: Final = {f"{unit}/s": factor for unit, factor in _BYTES.items()} | {
    f"{prefix}{bits}": factor // 8
    for prefix, factor in {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}.items()
    for bits in ("b/s", "bit/s", "bps")
}
# Operations a second of a number format ("TOPS" for integers, "TFLOPS" for floating point).
_OPERATIONS: Final = {
    f"{prefix}{word}": factor
    for prefix, factor in {"G": 10**9, "T": 10**12, "P": 10**15}.items()
    for word in ("FLOPS", "OPS")
}
_WATTS: Final = {"W": 1, "kW": 1000, "mW": Decimal("1e-3")}
_VOLTS: Final = {"V": 1, "kV": 1000}
_AMPS: Final = {"A": 1, "mA": Decimal("1e-3")}
_SECONDS: Final = {"s": 1, "ms": Decimal("1e-3"), "us": Decimal("1e-6"), "ns": Decimal("1e-9"), "min": 60, "h": 3600}
_QUANTITY: Final = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?)\s*([A-Za-z/]+)\s*", re.ASCII)
_LONGEST: Final = 64  # characters; nobody writes more, and what is longer is no quantity


def _parse(text: str, units: Mapping[str, int | Decimal], what: str) -> Decimal:
    matched = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if matched is None or matched[2] not in units:
        shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
        msg = f"{shown!r} is no {what}: a number and one of {', '.join(units)} is expected"
        raise ValueError(msg)
    return Decimal(matched[1].replace("_", "")) * units[matched[2]]


def parse_bytes(text: str) -> int:
    """Read "16 GiB" or "500 GB" as bytes; ValueError names the units that are known."""
    return round(_parse(text, _BYTES, "size"))


def parse_rate(text: str) -> int:
    """Read "200 Gb/s" or "273 GB/s" as bytes a second; ValueError names the units that are known."""
    return round(_parse(text, _BYTES_PER_SECOND, "rate"))


def parse_operations(text: str) -> float:
    """Read "125 TFLOPS" or "62 TOPS" as operations a second; ValueError names the units that are known."""
    return float(_parse(text, _OPERATIONS, "computing rate"))


def parse_watts(text: str) -> float:
    """Read "300 W" or "1.5 kW" as watts; ValueError names the units that are known."""
    return float(_parse(text, _WATTS, "power"))


def parse_volts(text: str) -> float:
    """Read "120 V" as volts; ValueError names the units that are known."""
    return float(_parse(text, _VOLTS, "voltage"))


def parse_amps(text: str) -> float:
    """Read "15 A" as amperes; ValueError names the units that are known."""
    return float(_parse(text, _AMPS, "current"))


def parse_duration(text: str) -> float:
    """Read "2 us" or "1.5 ms" as seconds; ValueError names the units that are known."""
    return float(_parse(text, _SECONDS, "duration"))


def format_bytes(count: float) -> str:
    """Write bytes with a binary prefix: 17179869184 -> "16.0 GiB"."""
    for unit, factor in (("TiB", 1024**4), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(count) >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def format_rate(bytes_per_second: float) -> str:
    """Write bytes a second as networks are sold: 25e9 -> "200 Gb/s"."""
    bits = bytes_per_second * 8
    for unit, factor in (("Tb/s", 1e12), ("Gb/s", 1e9), ("Mb/s", 1e6), ("kb/s", 1e3)):
        if bits >= factor:
            return f"{bits / factor:g} {unit}"
    return f"{bits:.0f} b/s"


def format_seconds(seconds: float) -> str:
    """Write a duration in its two largest units: 3725 -> "1 h 2 min"."""
    whole = int(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def exact_bytes(count: int) -> str:
    """Write bytes so that parse_bytes gives them back: 128 * GIB -> "128 GiB"."""
    return _shortest(count, ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "kB", "B"), _BYTES)


def exact_rate(bytes_per_second: int) -> str:
    """Write bytes a second so that parse_rate gives them back: 25 * 10**9 -> "200 Gb/s"."""
    return _shortest(bytes_per_second, ("Tb/s", "Gb/s", "Mb/s", "kb/s", "B/s"), _BYTES_PER_SECOND)


def _shortest(count: int, units: tuple[str, ...], factors: Mapping[str, int]) -> str:
    """The shortest text, with up to three decimals, that rounds to exactly `count`; the earlier unit if equal."""
    texts = [f"{count} {units[-1]}"]
    for unit in units[:-1]:
        if count < factors[unit]:
            continue
        number = f"{Decimal(count) / factors[unit]:.3f}".rstrip("0").rstrip(".")
        if round(Decimal(number) * factors[unit]) == count:
            texts.append(f"{number} {unit}")
    return min(texts[1:] + texts[:1], key=len)


def exact_operations(operations_per_second: float) -> str:
    """Write operations a second so that parse_operations gives them back: 125e12 -> "125 TFLOPS"."""
    for unit in ("PFLOPS", "TFLOPS"):
        if operations_per_second >= _OPERATIONS[unit]:
            break
    else:
        unit = "GFLOPS"
    return f"{_plain(Decimal(repr(operations_per_second)) / _OPERATIONS[unit])} {unit}"


def exact_watts(watts: float) -> str:
    """Write watts so that parse_watts gives them back: 300.0 -> "300 W"."""
    return f"{_plain(watts)} W"


def exact_volts(volts: float) -> str:
    """Write volts so that parse_volts gives them back: 120.0 -> "120 V"."""
    return f"{_plain(volts)} V"


def exact_amps(amps: float) -> str:
    """Write amperes so that parse_amps gives them back: 15.0 -> "15 A"."""
    return f"{_plain(amps)} A"


def exact_duration(seconds: float) -> str:
    """Write seconds so that parse_duration gives them back: 2e-06 -> "2 us"."""
    for unit in ("s", "ms", "us"):
        if seconds >= _SECONDS[unit]:
            break
    else:
        unit = "ns"
    return f"{_plain(Decimal(repr(seconds)) / _SECONDS[unit])} {unit}"


def _plain(number: float | Decimal) -> str:
    text = f"{Decimal(repr(number)) if isinstance(number, float) else number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
