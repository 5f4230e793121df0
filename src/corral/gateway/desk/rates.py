"""How fast one replica reads prompts and writes answers, learned from how requests ended; knows no request.

Both are means that forget, kept robust: what is learned at once is at most four times off what was believed. Writing
slows down with the number of streams n, because they share a batch: seconds per token = alone + each * (n - 1), fitted
by least squares whose weights fade.
"""

from math import exp, log
from typing import Final

PREFILL: Final = 1000.0  # tokens a second where nothing is known; equal for equals, so it decides nothing between them
DECODE: Final = 20.0
_SHARE_OF_A_STREAM: Final = 0.05  # `each` / `alone`, where nothing is learned yet
_LEAST_PROMPT: Final = 256  # tokens; less says more about overhead than about speed
_LEAST_ANSWER: Final = 8
_CLIP: Final = 4.0
_STEP: Final = 0.15  # weight of the newest
_FADE: Final = 0.9
_BELIEF: Final = 3.0  # observations that a prediction is worth
_NOTHING: Final = 0.01  # observations; not 0, for it is divided by
_SPREAD: Final = 0.1  # streams squared; with less variance than this, `each` is mostly what was assumed


class Rates:
    """A replica's speeds. `prefill`: tokens a second; `alone`, `each`: seconds."""

    __slots__ = ("_mean_n", "_mean_t", "_nn", "_nt", "_seen", "_weight", "alone", "each", "prefill")

    def __init__(self, prefill: float, decode: float) -> None:
        self.prefill = prefill or PREFILL
        self._seen = _BELIEF if prefill else 0.0
        self.alone = 1.0 / (decode or DECODE)
        self.each = _SHARE_OF_A_STREAM * self.alone
        self._weight = _BELIEF if decode else _NOTHING
        self._mean_n = 1.0
        self._mean_t = self.alone
        self._nn = self._nt = 0.0  # moments around the means

    def tpot(self, streams: int) -> float:
        """Seconds per token of one stream among so many."""
        return self.alone + self.each * (streams - 1)

    def assume(self, other: "Rates") -> None:
        """Believe of what nobody predicted and nothing was learned here that it is as with another replica.

        Else one that happens to be tried first, and is faster than assumed, would have all requests.
        """
        if not self._seen:
            self.prefill = other.prefill
        if self._weight == _NOTHING:
            self.alone = self._mean_t = other.alone
            self.each = other.each

    def learn_prefill(self, tokens: float, before: float, seconds: float) -> None:
        """An answer's first token came when these tokens were read, and those of earlier requests before them."""
        if tokens < _LEAST_PROMPT or seconds <= 0:
            return
        ratio = _clipped((tokens + before) / seconds / self.prefill)
        self._seen += 1
        self.prefill *= exp(max(_STEP, 1 / self._seen) * log(ratio))

    def learn_decode(self, tokens: float, seconds: float, streams: float) -> None:
        """So many tokens were written in these seconds, with so many streams on average."""
        if tokens < _LEAST_ANSWER or seconds <= 0:
            return
        believed = self.alone + self.each * (streams - 1)
        took = believed * _clipped(seconds / tokens / believed)
        old = self._weight * _FADE
        self._weight = old + 1
        off_n, off_t = streams - self._mean_n, took - self._mean_t
        self._mean_n += off_n / self._weight
        self._mean_t += off_t / self._weight
        self._nn = self._nn * _FADE + off_n * (streams - self._mean_n)
        self._nt = self._nt * _FADE + off_n * (took - self._mean_t)
        self._fit()

    def _fit(self) -> None:
        """Slope by least squares, pulled towards a share of the mean where the number of streams hardly varied."""
        above = self._mean_n - 1
        assumed = _SHARE_OF_A_STREAM * self._mean_t / (1 + _SHARE_OF_A_STREAM * above)
        pull = _SPREAD * self._weight
        slope = (self._nt + pull * assumed) / (self._nn + pull)
        # A stream never speeds the others up, and its share is never more than a turn of its own.
        self.each = min(max(slope, 0.0), self._mean_t / (1 + above))
        self.alone = self._mean_t - self.each * above


def _clipped(ratio: float) -> float:
    return min(max(ratio, 1 / _CLIP), _CLIP)
