"""SVG as text: elements with escaped attributes, and the style that follows a light or a dark page; knows no plan."""

from collections.abc import Iterable
from html import escape
from typing import Final

# Colours by what they stand for, for light pages and for dark ones; viewers without style sheets get the light ones.
_LIGHT: Final = {
    "page": "#ffffff", "card": "#f6f7f9", "edge": "#d5d9e0", "domain": "#ffffff", "text": "#1b2430", "soft": "#5c6878",
    "wire": "#8a96a8", "empty": "#e6e9ee", "accent": "#2f6feb", "weights": "#3b6fd4", "cache": "#2ea36b",
    "state": "#16a3b8", "activations": "#a468d1", "engine": "#e0a136",
}  # fmt: skip
_DARK: Final = {
    "page": "#0f141b", "card": "#171e28", "edge": "#2c3644", "domain": "#111821", "text": "#e8edf4", "soft": "#93a1b5",
    "wire": "#5d6b80", "empty": "#263040", "accent": "#6aa0ff", "weights": "#5b8def", "cache": "#3fbf84",
    "state": "#35c0d3", "activations": "#b98be0", "engine": "#e8b455",
}  # fmt: skip
_FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"


def _rules(colours: dict[str, str]) -> str:
    fills = "".join(f".f-{name}{{fill:{colour}}}" for name, colour in colours.items())
    strokes = "".join(f".s-{name}{{stroke:{colour}}}" for name, colour in colours.items())
    return fills + strokes


def document(width: float, height: float, title: str, body: Iterable[str]) -> str:
    """A whole SVG document of this size on its own background."""
    style = (
        f"text{{font-family:{_FONT}}}.b{{font-weight:600}}.h{{paint-order:stroke;stroke-width:5px}}{_rules(_LIGHT)}"
        f"@media (prefers-color-scheme:dark){{{_rules(_DARK)}}}"
    )
    view = f'viewBox="0 0 {_n(width)} {_n(height)}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" height="{_n(height)}" role="img" {view}>',
        f"<title>{escape(title)}</title>",
        f"<style>{style}</style>",
        box(0, 0, width, height, "page"),
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def box(
    x: float, y: float, width: float, height: float, fill: str, *, edge: str = "", round_: float = 0, note: str = ""
) -> str:
    """A rectangle; `note` is what a pointer on it shows."""
    stroke = f" s-{edge}" if edge else ""
    inside = f"><title>{escape(note)}</title></rect>" if note else "/>"
    return (
        f'<rect class="f-{fill}{stroke}" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
        f' rx="{_n(round_)}"{inside}'
    )


def text(
    x: float,
    y: float,
    words: str,
    size: float,
    *,
    fill: str = "text",
    bold: bool = False,
    anchor: str = "start",
    halo: bool = False,
) -> str:
    """A line of text at its baseline; with a halo it keeps lines that it crosses at a distance."""
    weight = (" b" if bold else "") + (" h s-page" if halo else "")
    place = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return (
        f'<text class="f-{fill}{weight}" x="{_n(x)}" y="{_n(y)}" font-size="{_n(size)}"{place}>{escape(words)}</text>'
    )


def path(steps: str, *, colour: str = "wire", width: float = 2) -> str:
    """A line along SVG path steps."""
    return f'<path class="s-{colour}" d="{steps}" fill="none" stroke-width="{_n(width)}" stroke-linecap="round"/>'


def dot(x: float, y: float, radius: float, fill: str) -> str:
    """A filled circle."""
    return f'<circle class="f-{fill}" cx="{_n(x)}" cy="{_n(y)}" r="{_n(radius)}"/>'


def width_of(words: str, size: float) -> float:
    """About how wide a line of text is: digits and small letters take a little over half their size."""
    return len(words) * size * 0.54


def shortened(words: str, size: float, room: float) -> str:
    """Words cut to what fits into a width."""
    most = max(1, int(room / (size * 0.54)))
    return words if len(words) <= most else f"{words[: max(1, most - 1)]}…"


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
