"""Starts the head as a process of its own and finds the one that runs; knows no deployment.

There is one head for one folder of state ($CORRAL_HOME): it holds a lock on `head.lock`, in which it says where it
serves. Whoever wants something of it writes that into the database.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, TextIO

from corral.cluster.endpoint import EndpointSettings
from corral.errors import CorralError, DoesNotFit, ExitCode
from corral.store.database import home
from corral.store.settings import endpoint_of_last_head
from corral.values import Value

START_SECONDS: Final = 20.0
LOG_BYTES: Final = 8 * 1024 * 1024
NOTHING_SAID: Final = EndpointSettings()


class HeadAddress(Value):
    """Where the head that runs can be found."""

    pid: int
    host: str
    port: int
    tls: bool = False

    @property
    def url(self) -> str:
        """The base URL of the gateway."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


def running_head() -> HeadAddress | None:
    """The head that serves, or None; one that only starts or is about to end does not."""
    return _written() if head_lives() else None


def head_lives() -> bool:
    """Whether a head's process is there: it serves, it starts, or it has not quite ended."""
    try:
        with _lock_file().open(encoding="utf-8") as file:
            # Those who only look share the lock, so that they never take each other for a head.
            return not _lock(file, fcntl.LOCK_SH)
    except OSError:
        return False


class HeadOptions(Value):
    """What a head is started with."""

    endpoint: EndpointSettings = EndpointSettings()
    unkeyed: bool = False  # let it listen where other machines reach it, though nobody is asked for a key


def ensure_head(endpoint: EndpointSettings = NOTHING_SAID, *, unkeyed: bool = False) -> HeadAddress:
    """Give the head that runs, or start one; DoesNotFit when one runs elsewhere than asked for.

    `unkeyed`: let it listen where other machines reach it, though nobody is asked for a key.
    """
    there = running_head() or _start(endpoint, unkeyed=unkeyed)
    elsewhere = (endpoint.host is not None and endpoint.host != there.host) or (
        endpoint.port not in {None, 0, there.port}
    )
    if elsewhere or (endpoint.tls_cert is not None and not there.tls):
        raise DoesNotFit(
            f"Corral already serves at {there.url} (process {there.pid}); one endpoint serves all models.",
            "Leave out --host, --port and --tls-cert (and the file's `gateway`), or end it with `corral down` first.",
        )
    return there


def _start(endpoint: EndpointSettings, *, unkeyed: bool) -> HeadAddress:
    """Start a head: where one that was killed has served, for its clients go on asking there, if that is possible."""
    last = _written()
    if last is None:
        return _spawn(HeadOptions(endpoint=endpoint, unkeyed=unkeyed))
    before = endpoint_of_last_head().under(endpoint)
    if endpoint.host in {None, last.host} and not endpoint.port:
        there = before.model_copy(update={"host": last.host, "port": last.port})
        with contextlib.suppress(CorralError):
            return _spawn(HeadOptions(endpoint=there, unkeyed=unkeyed))  # serving others is asked for each time
    place = {"host": endpoint.host, "port": endpoint.port}
    return _spawn(HeadOptions(endpoint=before.model_copy(update=place), unkeyed=unkeyed))


def _spawn(options: HeadOptions) -> HeadAddress:
    path = home() / "logs" / "head.log"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        log = path.open("ab")
    except OSError as error:
        raise _unwritable(path, error) from error
    with log:
        head = subprocess.Popen(
            [sys.executable, "-m", "corral.launcher.daemon", options.model_dump_json(exclude_defaults=True)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    assert head.stdout is not None  # noqa: S101 - asked for in the call above
    with head.stdout as answer:
        told: dict[str, Any] = json.loads(answer.readline() or b"{}")
    if told.get("head", {}).get("pid") != head.pid:
        head.wait()  # it serves nobody, so nothing of it shall be left when the command ends
    if "head" in told:
        return HeadAddress.model_validate(told["head"])
    if "error" in told:
        error = told["error"]
        raise CorralError(error["cause"], error["remedy"], code=ExitCode(error["code"]))
    raise CorralError(f"Corral's head ended before it served (status {head.wait()}).", f"Its last words are in {path}.")


def _unwritable(path: Path, error: OSError) -> CorralError:
    return CorralError(
        f"{path} cannot be written: {error.strerror}.",
        "Free space or mend the permissions there, or point CORRAL_HOME to another folder.",
    )


def _lock_file() -> Path:
    return home() / "head.lock"


def _written() -> HeadAddress | None:
    """Where the head serves, or has served if it was killed."""
    try:
        return HeadAddress.model_validate_json(_lock_file().read_bytes())
    except (OSError, ValueError):
        return None


def _lock(file: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _take_lock() -> TextIO | HeadAddress:
    """Take the head's lock, to be held until this process has ended; or give the head that serves already.

    One that ends just now is waited for.
    """
    deadline = time.monotonic() + START_SECONDS
    try:
        _lock_file().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = _lock_file().open("a+", encoding="utf-8")
    except OSError as error:
        raise _unwritable(_lock_file(), error) from error
    while not _lock(file, fcntl.LOCK_EX):
        if (there := running_head()) is not None:
            return there
        if time.monotonic() > deadline:
            raise DoesNotFit("Another head holds the lock.", "Look for it with `corral status`.")
        time.sleep(0.05)
    os.dup(file.fileno())  # so that the kernel lets go of it, when nothing of this process is left
    file.truncate(0)
    return file


def _write(lock: TextIO, address: HeadAddress) -> None:
    """Say in the lock where this head serves."""
    try:
        lock.write(address.model_dump_json())
        lock.flush()
    except OSError as error:
        raise _unwritable(_lock_file(), error) from error


async def _serve(options: HeadOptions, lock: TextIO) -> None:
    """Be the head: gateway and runners in one event loop."""
    import aiohttp  # noqa: PLC0415 - the command line imports this module too, and must start fast

    from corral.gateway.collector import calm  # noqa: PLC0415 - as above
    from corral.launcher.endpoint import serve  # noqa: PLC0415 - as above
    from corral.launcher.head import Head  # noqa: PLC0415 - as above
    from corral.store.state import Store  # noqa: PLC0415 - as above

    settings = options.endpoint
    with Store(time.time) as store:
        async with serve(settings, unkeyed=options.unkeyed) as endpoint:
            main = asyncio.current_task()
            assert main is not None  # noqa: S101 - within a coroutine
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, main.cancel)
            try:
                tls = settings.tls_cert is not None
                address = HeadAddress(pid=os.getpid(), host=endpoint.host, port=endpoint.gateway.port, tls=tls)
                _write(lock, address)
                calm()
                _answer({"head": address.model_dump()})
                async with aiohttp.ClientSession() as session:
                    await Head(store, endpoint.gateway.table, session).run()
                lock.truncate(0)  # from now on it serves nobody; one that was told to end may be followed at its place
            except asyncio.CancelledError:
                store.tell(None, "head.ended", "told to end; ranks run on")


def _answer(message: dict[str, Any]) -> None:
    """Tell the process that started this one, once, and let go of it."""
    with contextlib.suppress(BrokenPipeError):  # it may have been killed since
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def main(options: HeadOptions) -> int:
    """Be the head until no deployment is wanted."""
    import uvloop  # noqa: PLC0415 - only the head needs it

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        lock = _take_lock()
        if isinstance(lock, HeadAddress):
            _answer({"head": lock.model_dump()})
            return 0
        uvloop.run(_serve(options, lock))
    except CorralError as error:
        _answer({"error": {"cause": error.cause, "remedy": error.remedy, "code": int(error.code)}})
        sys.stderr.write(f"{error}\n")  # head.log: whoever started this one may be gone
        return int(error.code)
    return 0


if __name__ == "__main__":
    sys.exit(main(HeadOptions.model_validate_json(sys.argv[1])))
