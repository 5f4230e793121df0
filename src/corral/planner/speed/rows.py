"""A row of a table of measurements as a case, and what its measured columns mean; knows no file and no prediction.

The columns are those of `measured/README.md`. Sources count differently, and say so in their notes or by their tool:
whether streams begin together, whether a rate counts the time before the first token, where decoding starts.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from corral.catalog.devices import DeviceSpec
from corral.catalog.links import LinkSpec
from corral.errors import BadInput
from corral.models.architecture import ModelArchitecture
from corral.planner.formats import kv_format, weight_format
from corral.planner.speed.engines import engine_family, reads_gguf
from corral.planner.speed.values import Speculation, SpeedCase, Split
from corral.units import GIB

Metric: TypeAlias = Literal["decode", "prefill", "ttft", "output"]
METRICS: Final[tuple[Metric, ...]] = ("decode", "prefill", "ttft", "output")
COLUMNS: Final[Mapping[Metric, str]] = {
    "decode": "decode_tok_s",
    "prefill": "prefill_tok_s",
    "ttft": "ttft_ms",
    "output": "output_tok_s",
}
REQUIRED: Final = ("device", "model")
MEASURED: Final = ("prefill_tok_s", "decode_tok_s", "output_tok_s", "ttft_ms", "tpot_ms", "power_w")

# Typical of the field where a row leaves them out.
_PROMPT: Final = 128
_OUTPUT: Final = 128
_FRESH: Final = 256  # tokens of a warm prompt that the prefix cache does not hold
_MOST: Final = 2**31  # a count above is a mistake


@dataclass(frozen=True, slots=True)
class Conventions:
    """How a source measures."""

    together: bool  # all requests begin at once; else one begins whenever another ends
    apart: bool  # prompts and decoding are timed apart, and never overlap
    from_first_token: bool  # the rate of all streams starts with the first token
    by_client: bool  # a prompt's rate is its length over its TTFT, waiting included
    warm: bool  # the prefix cache answered (part of) the prompt: TTFT and prefill are not those of a cold prompt


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its number in the file, its names, the case to predict, how it was measured, what was measured."""

    line: int
    name: str
    device: str
    engine: str
    link: str
    model: str
    source: str
    case: SpeedCase
    conventions: Conventions
    measured: Mapping[Metric, float]  # in the columns' own units


@dataclass(frozen=True, slots=True)
class Names:
    """Where names are looked up; each raises BadInput for one that it does not know."""

    device: Callable[[str], DeviceSpec]
    link: Callable[[str, DeviceSpec], LinkSpec]
    model: Callable[[str], ModelArchitecture]


def read_row(line: int, cells: Mapping[str, str], names: Names) -> Row:
    """A row of the table. Raises BadInput, naming the line, for what cannot be read or is not known."""
    try:
        return _row(line, cells, names)
    except BadInput as error:
        raise BadInput(f"Line {line}: {error.cause}", error.remedy) from error


def _row(line: int, cells: Mapping[str, str], names: Names) -> Row:
    for column in REQUIRED:
        if not cells.get(column, "").strip():
            raise BadInput(f"the column {column} is empty.", "Give a name of the catalog.")
    device = names.device(cells["device"].strip())
    model = names.model(cells["model"].strip())
    engine = cells.get("engine", "").strip() or "vllm"
    notes = f"{cells.get('notes', '')} {cells.get('locator', '')}".lower()
    gguf = reads_gguf(engine)
    concurrency = _count(cells, "concurrency", 1)
    prompt = _count(cells, "prompt_tokens", _PROMPT, least=0)
    filled = _count(cells, "context_tokens", -1, least=0)
    output = max(1, _count(cells, "output_tokens", _OUTPUT, least=0))
    apart = gguf and "server" not in notes
    bench = apart and concurrency == 1 and filled >= 0
    if bench and filled == 0:
        filled = _depth(notes)
    weights = _number(cells, "weights_gib")
    case = SpeedCase(
        model=model,
        weights=_weights(cells.get("quant", ""), gguf=gguf),
        weights_bytes=int(weights * GIB) if weights else None,
        kv=_cache(cells.get("kv_dtype", "")),
        device=device,
        split=_split(cells, device, names, layers=_by_layers(engine, notes)),
        engine=engine,
        engine_version=cells.get("engine_version", "").strip() or None,
        eager=cells.get("eager", "").strip().lower() in {"yes", "true", "1"},
        chunk=_chunk(notes),
        weight_only="marlin" in notes,
        speculation=_speculation(cells.get("speculative", "")),
        prompt=(prompt + filled if bench else prompt) or 1,
        cached=filled if bench else max(0, prompt - _FRESH) if is_warm(notes) else 0,
        context=filled if bench else max(prompt, filled),
        output=output,
        concurrency=concurrency,
        power_limit=_power_limit(notes),
    )
    return Row(
        line=line,
        name=cells.get("row", "").strip() or str(line),
        device=device.id,
        engine=engine,
        link=cells.get("link", "").strip() or "none",
        model=model.id,
        source=cells.get("source", "").strip(),
        case=case,
        conventions=Conventions(
            together=not re.search(r"steady|request rate|poisson|bench serve|genai-perf|aiperf", notes),
            apart=apart,
            from_first_token="llama-benchy" in notes or "kind=single_stream" in notes,
            by_client="kind=aggregate_output" in notes,
            warm=is_warm(notes),
        ),
        measured={m: value for m, column in COLUMNS.items() if (value := _number(cells, column)) is not None},
    )


def _weights(said: str, *, gguf: bool) -> str:
    """The format as said, or none (what the model is published in) for one that nobody knows."""
    try:
        weight_format(said, gguf=gguf)
    except BadInput:
        return ""
    return said.strip()


def _cache(said: str) -> str:
    try:
        kv_format(said)
    except BadInput:
        return "auto"
    return said.strip() or "auto"


def is_warm(notes: str) -> bool:
    """Whether the notes say that a prefix cache answered: then a TTFT is not that of a cold prompt."""
    plain = notes.lower()
    if "cache off" in plain or "cold prefill" in plain or "without prefix cache" in plain:
        return False
    return bool(
        re.search(r"warm prefix|prefix[- ]warm|warm cache|prefix cach(e|ing) (on|hit|enabled|warm)|is warm", plain)
    )


def _split(cells: Mapping[str, str], device: DeviceSpec, names: Names, *, layers: bool) -> Split:
    """How the ranks divide the work; with `layers` degrees of tp are taken as stages, llama.cpp's own way to split."""
    tp, pp, ep, dp = (_count(cells, name, 1) for name in ("tp", "pp", "ep", "dp"))
    if layers:
        tp, pp = 1, tp * pp
    devices = _count(cells, "devices", tp * pp * dp)
    if tp * pp * dp < devices:
        dp = max(dp, devices // (tp * pp)) if devices % (tp * pp) == 0 and dp > 1 else dp
    nodes = min(_count(cells, "nodes", 1), max(1, tp * pp * dp))
    name = cells.get("link", "").strip().lower() or "none"
    many = tp * pp * dp > 1
    link = names.link(name, device) if many and name != "none" else None
    between_nodes = link is not None and (link.scope == "node" or nodes > 1)
    inside = None if between_nodes or not many else link
    if many and inside is None and tp * pp * dp > nodes:
        inside = names.link(device.peer or "pcie4", device)
    return Split(
        tp=tp,
        pp=pp,
        ep=ep,
        dp=dp,
        nodes=nodes if nodes > 1 else (min(2, tp * pp * dp) if between_nodes else 1),
        device_link=inside,
        node_link=link if between_nodes else None,
    )


def _depth(notes: str) -> int:
    """Tokens in the cache before a run, as llama-bench names it ("pp4096 @ d16384"), where the columns do not say."""
    found = re.search(r"(?:@ ?|_)d(\d{3,7})\b", notes)
    return int(found.group(1)) if found else 0


def _chunk(notes: str) -> int | None:
    """Tokens of prompts computed at once, where the notes give the engine's option for it."""
    found = re.search(
        r"(?:-ub|--ubatch-size|max-num-batched-tokens|chunked-prefill-size|max_num_tokens)[ =](\d{2,6})\b", notes
    )
    return int(found.group(1)) if found else None


def _by_layers(engine: str, notes: str) -> bool:
    """Whether ranks hold layers whatever the row calls their degree: llama.cpp, unless told to split each matrix."""
    return engine_family(engine) == "llamacpp" and not re.search(r"sm-(row|tensor|graph)", notes)


def _speculation(said: str) -> Speculation | None:
    """A method's name, with its length if the name tells it. What nobody states is taken as none."""
    plain = said.strip().lower()
    if not plain or plain in {"none", "off", "no", "false", "0"}:
        return None
    method = next((m for m in ("mtp", "eagle", "ngram", "medusa", "dflash", "draft") if m in plain), "draft-model")
    found = re.search(r"(?:steps|draft|n|k|tokens|length)\s*[=_-]?\s*(\d+)", plain)
    length = min(8, int(found.group(1))) if found else (1 if method == "mtp" else 3)
    return Speculation(method="draft-model" if method == "draft" else method, length=length, acceptance=0.7)


def _power_limit(notes: str) -> float | None:
    """A limit per device in watts, where the notes state one."""
    found = re.search(r"power limit (?:of )?(\d{2,4}) ?w", notes)
    return float(found.group(1)) if found else None


def _number(cells: Mapping[str, str], column: str) -> float | None:
    """A positive number, or none where the cell is empty or zero."""
    text = cells.get(column, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise BadInput(
            f"the column {column} holds {text!r}, which is no number.", "Give a plain number, the unit is the column's."
        ) from None
    if not 0 <= value < float(_MOST) * 1e6:
        raise BadInput(f"the column {column} holds {text}, which cannot be.", "Give a positive number.")
    return value or None


def _count(cells: Mapping[str, str], column: str, default: int, *, least: int = 1) -> int:
    text = cells.get(column, "").strip()
    if not text:
        return default
    value = _number(cells, column) or 0.0
    if value != int(value) or not least <= value <= _MOST:
        raise BadInput(f"the column {column} holds {text}, which is no count.", "Give a whole number.")
    return int(value)
