"""A byte-level BPE tokenizer, trained on ASCII sentences and used to count them; knows no file format.

Tokens are strings in GPT-2's printable alphabet (one character a byte), as both tokenizer formats store them.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

# GPT-2's split into words, for ASCII text (the full one, with \p{L} and \p{N}, is what the engines use).
_WORD: Final = re.compile(r"'(?:[stmd]|re|ve|ll)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")

Pair = tuple[str, str]


def _byte_alphabet() -> tuple[str, ...]:
    """GPT-2's printable character for each byte: itself where it prints, else the next one from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


ALPHABET: Final = _byte_alphabet()


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Tokens by id (256 bytes, one a merge, then the specials) and the merges in the order of their rank."""

    tokens: tuple[str, ...]
    merges: tuple[Pair, ...]
    specials: tuple[str, ...]

    def id(self, token: str) -> int:
        """The id of one token; ValueError when there is none."""
        return self.tokens.index(token)

    def encode(self, text: str) -> list[int]:
        """Token ids of an ASCII text without special tokens."""
        ids = {token: index for index, token in enumerate(self.tokens)}
        return [ids[piece] for word in _words(text) for piece in self._pieces(word)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; special tokens are left out, broken UTF-8 is replaced."""
        characters = "".join(self.tokens[index] for index in ids if self.tokens[index] not in self.specials)
        return bytes([ALPHABET.index(character) for character in characters]).decode(errors="replace")

    def _pieces(self, word: tuple[str, ...]) -> tuple[str, ...]:
        for pair in self.merges:
            word = _join(word, pair)
        return word


def _words(text: str) -> list[tuple[str, ...]]:
    return [tuple(ALPHABET[byte] for byte in word[0].encode("ascii")) for word in _WORD.finditer(text)]


def _join(word: tuple[str, ...], pair: Pair) -> tuple[str, ...]:
    """`word` with every neighbouring `pair` of it made one piece, from the left."""
    pieces: list[str] = []
    for piece in word:
        if pieces and (pieces[-1], piece) == pair:
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return tuple(pieces)


def train(sentences: Iterable[tuple[str, int]], *, size: int, specials: tuple[str, ...]) -> Tokenizer:
    """Merge the most frequent neighbours (of equals, the first in alphabetical order) until there are `size` tokens."""
    words: Counter[tuple[str, ...]] = Counter()
    for sentence, weight in sentences:
        for word in _words(sentence):
            words[word] += weight
    merges: list[Pair] = []
    while len(ALPHABET) + len(merges) + len(specials) < size:
        pairs: Counter[Pair] = Counter()
        for word, weight in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += weight
        if not pairs:
            msg = f"the sentences hold only {len(merges)} merges, too few for {size} tokens"
            raise ValueError(msg)
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = Counter({_join(word, best): weight for word, weight in words.items()})
    return Tokenizer((*ALPHABET, *(left + right for left, right in merges), *specials), tuple(merges), specials)
