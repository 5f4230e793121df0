"""A launch that runs: its gang, the way to its API, its readiness by a real generation; knows no store and no plan."""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NoReturn, Self, TypeVar

import aiohttp

from corral.engines.base import LaunchSpec, Rank, Symptom
from corral.engines.diagnosis import Cause, diagnose
from corral.errors import EngineFailed
from corral.launcher.deadline import Deadline
from corral.launcher.environments import Report
from corral.launcher.gang import Gang, RankDied
from corral.launcher.generation import Generated, Refused, generate
from corral.launcher.node import Node, RankRecord
from corral.launcher.race import race
from corral.launcher.ranklog import RankLogs
from corral.units import format_seconds

T = TypeVar("T")

PROBE_PAUSE: Final = 0.05  # seconds between two tries of the first generation
PROBE_SECONDS: Final = 300.0  # for one try: a first generation may compile kernels
ADOPT_SECONDS: Final = 300.0  # for a token from ranks that live: a long prefill may be before it
ADOPT_PAUSE: Final = 1.0
REFUSALS: Final = 3  # clear refusals to generate before it counts as a failure
SPEED_TOKENS: Final = 16
LAST_WORDS_SECONDS: Final = 1.0  # for the other ranks' logs to arrive after one has ended


class RankFailed(EngineFailed):
    """A gang failed; `rank` and `line` say where it began."""

    def __init__(self, cause: Cause, *, lost: bool) -> None:
        where = f"Rank {cause.rank} on {cause.node}" + (" was lost" if lost else " failed")
        quoted = f' Its log says: "{cause.line}"' if cause.line else ""
        super().__init__(f"{where}: {cause.cause}{quoted}", cause.remedy)
        self.rank = cause.rank
        self.line = cause.line


class Running:
    """The ranks of one launch while Corral looks after them; leaving the context lets them run on, unwatched."""

    def __init__(
        self,
        spec: LaunchSpec,
        model: str,
        nodes: Mapping[str, Node],
        records: Mapping[str, RankRecord],
        *,
        symptoms: tuple[Symptom, ...],
        logs: Path,
        session: aiohttp.ClientSession,
    ) -> None:
        self.api = spec.api
        self.base_url = ""
        self.rss: dict[str, int] = {}  # resident bytes by rank, as last seen
        self.nodes = {rank.name: rank.node for rank in spec.ranks}  # by rank
        self._spec = spec
        self._model = model
        self._nodes = nodes
        self._symptoms = symptoms
        self._session = session
        self._stack = AsyncExitStack()
        self._deadline: Deadline | None = None
        self._gang = Gang(spec, nodes, records, RankLogs(logs), on_log=self._on_log, on_beat=self._on_beat)

    async def __aenter__(self) -> Self:
        forward = self._nodes[self.api.node].host.forward(self.api.port, host=self.api.host)
        here = await self._stack.enter_async_context(forward)
        self.base_url = f"http://{here.host}:{here.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._gang.close()
        await self._stack.aclose()

    async def start(self, weights_bytes: int, report: Report) -> Generated:
        """Start the ranks and wait for the first token; EngineFailed says what went wrong where."""
        self._deadline = Deadline(time.monotonic(), weights_bytes)
        started: list[str] = []

        def on_ready(rank: Rank) -> None:
            started.append(rank.name)
            report("ranks", f"{rank.name} on {rank.node}", fraction=len(started) / len(self._spec.ranks))

        report("ranks", f"starting {len(self._spec.ranks)}", fraction=0.0)
        await self._guarded(self._gang.start(on_ready))
        report("load", "the engine loads the model")
        first = await self._guarded(self._first_token())
        report("load", f"took {format_seconds(time.monotonic() - self._deadline.started)}", fraction=1.0)
        report("first token", f"after {first.seconds:.2f} s", fraction=1.0)
        self._deadline = None
        return first

    async def adopt(self) -> bool:
        """Take up ranks that run already; False when one has ended, or no token came however long they were asked.

        An engine that is busy with its users' requests is not a dead one, so it is asked for a while.
        """
        self._gang.watch(starting=False)
        try:
            async with asyncio.timeout(ADOPT_SECONDS):
                await race(self._token_from_busy(), self._gang.failure())
        except (RankDied, TimeoutError):
            return False
        return True

    async def _token_from_busy(self) -> None:
        while not isinstance(await self._ask(1, seconds=ADOPT_SECONDS), Generated):  # noqa: ASYNC110 - the engine has no event
            await asyncio.sleep(ADOPT_PAUSE)

    async def serve(self) -> NoReturn:
        """Watch until a rank ends; EngineFailed then names the one that it began with."""
        try:
            await self._gang.failure()
        except RankDied as died:
            raise await self._explained(died) from died

    async def speed(self) -> float | None:
        """Tokens a second of one short stream, its prompt's time included; None when no answer came."""
        answer = await self._ask(SPEED_TOKENS, seconds=PROBE_SECONDS)
        return answer.tokens / answer.seconds if isinstance(answer, Generated) and not self.api.embeddings else None

    async def _ask(self, tokens: int, *, seconds: float) -> Generated | Refused | None:
        return await generate(self._session, self.base_url, self.api, self._model, tokens=tokens, timeout=seconds)

    async def _first_token(self) -> Generated:
        """Ask until the engine generates; a port that answers is not enough."""
        refused = 0
        while True:
            answer = await self._ask(1, seconds=PROBE_SECONDS)
            if isinstance(answer, Generated):
                return answer
            if isinstance(answer, Refused):
                refused += 1
                if refused == REFUSALS:
                    raise EngineFailed(
                        f"The engine is up but does not generate (status {answer.status}): {answer.text}",
                        "Read its log with `corral logs`.",
                    )
            await asyncio.sleep(PROBE_PAUSE)

    async def _guarded(self, work: Coroutine[Any, Any, T]) -> T:
        """Await the work while all ranks live and the deadline has not passed."""
        try:
            return await race(work, self._gang.failure(), self._expiry())
        except RankDied as died:
            raise await self._explained(died) from died

    async def _expiry(self) -> NoReturn:
        """Raise once the deadline has passed without progress."""
        assert self._deadline is not None  # noqa: S101 - set before anything is guarded
        while not self._deadline.expired(time.monotonic()):  # noqa: ASYNC110 - time passes without an event
            await asyncio.sleep(1.0)
        cause = diagnose(self._symptoms, self._gang.ends())
        hint = f' Rank {cause.rank} says: "{cause.line}"' if cause else ""
        raise EngineFailed(
            f"The engine did not generate within {format_seconds(self._deadline.seconds)}, and no rank has moved "
            f"lately.{hint}",
            "Read the ranks' logs with `corral logs`; a slow disk needs a longer look, a silent network a repair.",
        )

    async def _explained(self, died: RankDied) -> RankFailed:
        """Wait for the last words of all ranks, then name the one that the failure began with."""
        await asyncio.sleep(LAST_WORDS_SECONDS)
        cause = diagnose(self._symptoms, self._gang.ends())
        if cause is None:
            remedy = f"See that {died.node} is up and reachable, then run the command again."
            return RankFailed(Cause(rank=died.rank, node=died.node, cause=f"{died.reason}.", remedy=remedy), lost=True)
        return RankFailed(cause, lost=False)

    def _on_log(self, _rank: str) -> None:
        if self._deadline is not None:
            self._deadline.log(time.monotonic())

    def _on_beat(self, rank: str, rss: int, cpu: float) -> None:
        self.rss[rank] = rss
        if self._deadline is not None:
            self._deadline.cpu(rank, cpu, time.monotonic())
