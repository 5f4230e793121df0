"""Reads a Hub model's config.json and the headers of its weights by HTTP ranges; fetches no weights, knows no library.

The Hub's own library takes most of a second to load, which a plan has not: these are a few requests of the standard
library. The user's token is sent to the Hub alone, never to the host that it redirects to.
"""

import io
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, Final, cast

from corral.errors import BadInput, CorralError
from corral.models.gguf import Header, read_header
from corral.models.jsonfile import parse_object
from corral.models.safetensors import parse_header
from corral.models.source import ModelSource
from corral.units import MIB, format_bytes

_LISTING: Final = 32 * MIB
_CONFIG: Final = 4 * MIB
_CHUNK: Final = 1 * MIB  # a GGUF header is read in pieces of this, and of more as it goes on
_LARGEST_CHUNK: Final = 8 * MIB
_LONGEST_HEADER: Final = 128 * MIB
_AT_ONCE: Final = 8  # files


@dataclass
class Hub:
    """The Hub, asked until `deadline` (of time.monotonic)."""

    deadline: float
    endpoint: str = field(default_factory=lambda: os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/"))

    def listing(self, source: ModelSource) -> tuple[str, Mapping[str, int]]:
        """The commit that a source means, and the sizes of its files by name."""
        revision = urllib.parse.quote(source.revision, safe="")
        url = f"{self.endpoint}/api/models/{source.repo}/revision/{revision}?blobs=true"
        info = parse_object(self._get(url, source.repo, limit=_LISTING), f"the listing of {source.repo}")
        siblings = info.get("siblings")
        sizes: dict[str, int] = {}
        for file in cast("list[object]", siblings) if isinstance(siblings, list) else []:
            entry = cast("dict[str, object]", file) if isinstance(file, dict) else {}
            name, size = entry.get("rfilename"), entry.get("size")
            if isinstance(name, str):
                sizes[name] = size if isinstance(size, int) and size >= 0 else 0
        commit = info.get("sha")
        return (commit if isinstance(commit, str) and commit.isalnum() else source.revision), sizes

    def small(self, repo: str, commit: str, name: str, limit: int = _CONFIG) -> bytes:
        """A whole file of at most `limit` bytes."""
        return self._get(self._url(repo, commit, name), repo, limit=limit)

    def open(self, repo: str, commit: str, name: str, size: int) -> BinaryIO:
        """A file to read and seek in; only what is read is fetched, in growing pieces."""
        return io.BufferedReader(_Ranged(self, repo, self._url(repo, commit, name), size), buffer_size=64 * 1024)

    def piece(self, url: str, repo: str, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`."""
        data = self._get(url, repo, limit=end - start, span=(start, end))
        if len(data) != end - start:
            raise CorralError(f"The Hub at {self.endpoint} broke off while {repo} was read.", "Try again.")
        return data

    def _url(self, repo: str, commit: str, name: str) -> str:
        return f"{self.endpoint}/{repo}/resolve/{commit}/{urllib.parse.quote(name)}"

    def _get(self, url: str, repo: str, *, limit: int, span: tuple[int, int] | None = None) -> bytes:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise self._slow(repo)
        if not url.startswith(("http://", "https://")):
            raise BadInput(f"HF_ENDPOINT is {self.endpoint[:100]!r}, which is no web address.", "Unset it.")
        request = urllib.request.Request(url, headers={"User-Agent": "corral"})  # noqa: S310 - checked above
        if span is not None:
            request.add_header("Range", f"bytes={span[0]}-{span[1] - 1}")
        if token := _token():
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=left) as answer:  # noqa: S310 - as above
                if span is not None and answer.status != HTTPStatus.PARTIAL_CONTENT and span[0]:
                    raise self._unreachable(ValueError("it does not answer in parts"))
                return self._body(answer, repo, limit, whole=span is None)
        except CorralError:
            raise
        except urllib.error.HTTPError as error:
            with error:  # it holds the connection
                raise self._refused(error, repo) from None
        except TimeoutError:
            raise self._slow(repo) from None
        except (OSError, ValueError, HTTPException) as error:
            raise self._unreachable(error) from None

    def _body(self, answer: BinaryIO, repo: str, limit: int, *, whole: bool) -> bytes:
        """At most `limit` bytes of an answer, read piece by piece so that the deadline holds for the whole."""
        data = bytearray()
        while len(data) <= limit:
            if time.monotonic() > self.deadline:
                raise self._slow(repo)
            piece = answer.read(min(256 * 1024, limit + 1 - len(data)) if whole else min(256 * 1024, limit - len(data)))
            if not piece:
                return bytes(data)
            data += piece
            if not whole and len(data) == limit:
                return bytes(data)
        raise BadInput(f"A file of {repo} is larger than {format_bytes(limit)}.", "Name another repository.")

    def _slow(self, repo: str) -> CorralError:
        return CorralError(
            f"The Hub at {self.endpoint} did not answer in time for {repo}.",
            "Try again, or name a model of the catalog or one that is here.",
        )

    def _unreachable(self, error: Exception) -> CorralError:
        reason = getattr(error, "reason", error)
        return CorralError(
            f"The Hub at {self.endpoint} cannot be reached ({str(reason)[:120] or type(error).__name__}).",
            "Check the network, or name a model of the catalog or one that is here.",
        )

    def _refused(self, error: urllib.error.HTTPError, repo: str) -> CorralError:
        code = error.headers.get("X-Error-Code") if error.headers else None
        if code == "GatedRepo" or error.code == 403:
            return CorralError(
                f"{repo} is gated: its owner asks for consent first.",
                f"Open {self.endpoint}/{repo}, agree there, and set HF_TOKEN to a token of yours.",
            )
        if code == "RevisionNotFound":
            return BadInput(f"{repo} has no such revision.", "Name a branch, a tag or a commit, or none.")
        if error.code in {401, 404}:
            return BadInput(
                f"The Hub has no model {repo}, or it is private.",
                "Check the spelling; for a private model set HF_TOKEN.",
            )
        return CorralError(
            f"The Hub at {self.endpoint} answered {error.code} for {repo}.",
            "Try again later, or name a model that is here.",
        )


class _Ranged(io.RawIOBase):
    """A file on the Hub as a stream: reads ahead in pieces that double, and holds one piece at a time."""

    def __init__(self, hub: Hub, repo: str, url: str, size: int) -> None:
        self._hub, self._repo, self._url, self._size = hub, repo, url, size
        self._position, self._start, self._piece, self._next = 0, 0, b"", _CHUNK
        self._fetched = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride] - what BufferedReader passes
        there = self._start <= self._position < self._start + len(self._piece)
        if not there and self._position < self._size:
            self._fetch()
        offset = self._position - self._start
        data = self._piece[offset : offset + len(buffer)] if 0 <= offset < len(self._piece) else b""
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _fetch(self) -> None:
        if self._fetched > _LONGEST_HEADER:
            raise BadInput(f"The header of a file of {self._repo} has no end.", "Name another repository.")
        end = min(self._size, self._position + self._next)
        self._piece = self._hub.piece(self._url, self._repo, self._position, end)
        self._start, self._fetched = self._position, self._fetched + len(self._piece)
        self._next = min(2 * self._next, _LARGEST_CHUNK)


def gguf_headers(
    hub: Hub, source: ModelSource, commit: str, names: Sequence[str], sizes: Mapping[str, int]
) -> list[Header]:
    """The headers of all parts of a GGUF model, the first first."""

    def read(name: str) -> Header:
        with hub.open(source.repo, commit, name, sizes[name]) as file:
            return read_header(file, f"{source.repo}/{name}")

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(read, names))


def safetensors_bytes(
    hub: Hub, source: ModelSource, commit: str, names: Sequence[str], sizes: Mapping[str, int]
) -> list[tuple[str, int]]:
    """Every tensor's name and bytes, by the headers of all safetensors files."""

    def read(name: str) -> list[tuple[str, int]]:
        with hub.open(source.repo, commit, name, sizes[name]) as file:
            header = parse_header(file, f"{source.repo}/{name}")
        return [(key, tensor.bytes) for key, tensor in header.tensors.items()]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [tensor for tensors in pool.map(read, names) for tensor in tensors]


def config_of(hub: Hub, source: ModelSource, commit: str) -> dict[str, object]:
    """The repository's config.json."""
    return parse_object(hub.small(source.repo, commit, "config.json"), f"{source.repo}/config.json")


def _token() -> str | None:
    """The user's token, from where the Hub's library keeps it."""
    if token := os.environ.get("HF_TOKEN"):
        return token.strip()
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    try:
        return Path(os.environ.get("HF_TOKEN_PATH", home / "token")).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
