"""What was found now, put into a cluster file that a person has edited; keeps comments, order and every other key.

Discovery refreshes what machines say of themselves and never removes anything. It leaves alone: what only a person
decides (`_PERSONS`, and whole sections such as prices and circuits), and every line that says `# keep`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, cast

from corral.cluster.comments import lines_at_end, settle
from corral.cluster.file import as_plain, parse, styled, write, yaml_writer
from corral.cluster.values import Cluster

Plain: TypeAlias = dict[str, Any]  # a mapping of the file in the form of `as_plain`

# Written when absent, then left to the person: where it is reached, what it is called, what it may draw.
_PERSONS: Final = frozenset({
    "schema", "name", "address", "fabric", "ssh", "python", "runtime", "cache", "engines", "power_limit", "link",
    "kind", "bandwidth", "latency", "switch", "flops", "power_idle", "power_base",
})  # fmt: skip
_KEEP: Final = re.compile(r"#\s*keep\b")
# Lists of things and the key that tells them apart.
_IDENTITY: Final[dict[str, Callable[[Plain], Any]]] = {
    "nodes": lambda node: node["name"],
    "nics": lambda nic: nic["name"],
    "disks": lambda disk: disk["path"],
    "links": lambda link: frozenset(link["between"]),
}


@dataclass(frozen=True, slots=True)
class Merged:
    """The file's new text and, in sentences, what changed in it; no changes, no new text."""

    text: str
    changes: tuple[str, ...]


def merge(text: str, found: Cluster, name: str = "cluster.yaml") -> Merged:
    """Put `found` into the file's text. BadInput when the text is no cluster file, or would be none afterwards."""
    known = as_plain(parse(text, name))
    file: Any = yaml_writer().load(text)  # pyright: ignore[reportUnknownMemberType] - the library is untyped
    settle(file)
    end = lines_at_end(file)
    fresh = as_plain(found)
    merging = _Merging()
    for section in ("nodes", "links"):
        if section in fresh:
            merging.key(file, known, fresh, section, "")
    if not merging.changes:
        return Merged(text, ())
    result = write(file) + "".join(f"{line}\n" for line in end)
    parse(result, name)
    return Merged(result, tuple(merging.changes))


@dataclass(slots=True)
class _Merging:
    changes: list[str] = field(default_factory=list[str])

    def key(self, file: Any, known: Plain, fresh: Plain, key: str, where: str) -> None:  # noqa: ANN401 - the library's containers are untyped
        """Bring one key of a mapping up to date; `known` is what `file` says, in the form of `fresh`."""
        old, new = known.get(key), fresh[key]
        if old == new or (old is not None and (key in _PERSONS or _kept(file, key))):
            return
        if isinstance(old, dict):
            self.mapping(file[key], cast("Plain", old), new, f"{where} {key}".strip())
        elif isinstance(old, list) and key in _IDENTITY:
            self.named(file[key], cast("list[Plain]", old), new, key, where)
        elif isinstance(old, list) and key == "devices" and _same_hardware(cast("list[Plain]", old), new):
            for entry, before, after in zip(file[key], cast("list[Plain]", old), new, strict=True):
                self.mapping(entry, before, {**after, "name": before["name"]}, f"{where} {before['name']}")
        else:
            self.changes.append(f"{where or 'the file'}: {key} {_change(cast('object', old), new)}")
            file[key] = styled(new)

    def mapping(self, file: Any, old: Plain, new: Plain, where: str) -> None:  # noqa: ANN401 - as above
        for key in new:
            self.key(file, old, new, key, where)

    def named(self, file: Any, old: list[Any], new: list[Any], kind: str, where: str) -> None:  # noqa: ANN401 - as above
        """A list whose items have names: known ones are brought up to date, new ones are added, none is removed."""
        identity = _IDENTITY[kind]
        places = {identity(item): index for index, item in enumerate(old)}
        for item in new:
            label = f"{where} {'-'.join(item['between']) if kind == 'links' else identity(item)}".strip()
            place = places.get(identity(item))
            if place is not None:
                self.mapping(file[place], old[place], item, label)
            elif kind != "links" or not _joined(old, item):
                self.changes.append(f"{label}: new {'disk' if kind == 'disks' else kind[:-1]}")
                file.append(styled(item))


def _kept(file: Any, key: str) -> bool:  # noqa: ANN401 - as above
    """Whether the comment at the end of a key's line says `keep`."""
    tokens: list[Any] = []
    for token in file.ca.items.get(key) or ():
        tokens += token if isinstance(token, list) else [token]  # a list below a key that opens a block
    return any(token is not None and _KEEP.match(token.value) for token in tokens)


def _same_hardware(old: list[Plain], new: list[Plain]) -> bool:
    """Whether two lists of devices differ only in what they are called and in details such as drivers."""

    def hardware(devices: list[Plain]) -> list[tuple[Any, ...]]:
        return [(device["vendor"], device["memory"], device.get("count", 1)) for device in devices]

    return hardware(old) == hardware(new)


def _joined(links: list[Plain], found: Plain) -> bool:
    """Whether the person has already said how all of these nodes are joined, in whatever links."""
    return any(set(found["between"]) <= set(link["between"]) for link in links)


def _change(old: object, new: object) -> str:
    if old is None:
        return "added" if isinstance(new, list | dict) else f"added: {new}"
    if isinstance(new, list | dict):
        return "changed"
    return f"{old} -> {new}"
