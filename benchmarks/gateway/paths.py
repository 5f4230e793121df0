"""The processes of a comparison: the engine, the gateway, and what else stands in front of the same engine.

With two cores or more, what is measured has the first one alone; the engine and the load share the others.
"""

import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

LITELLM: Final = "litellm[proxy]==1.106.2"
LITELLM_HOME: Final = Path.home() / ".cache" / "corral-bench" / "litellm"
_LITELLM_SECONDS: Final = 120  # that a start may take
_MAIN: Final = str(Path(__file__).with_name("__main__.py"))

_NGINX: Final = """
daemon off; master_process off; worker_processes 1;
pid {home}/pid; error_log {home}/error.log crit;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/f;
  uwsgi_temp_path {home}/u; scgi_temp_path {home}/s; client_body_buffer_size 1m; keepalive_requests 1000000000;
  upstream engine {{ server 127.0.0.1:{engine}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
_LITELLM: Final = """
model_list:
  - model_name: m
    litellm_params: {{model: openai/m, api_base: "http://127.0.0.1:{engine}/v1", api_key: none}}
litellm_settings: {{telemetry: false, num_retries: 0}}
general_settings: {{dangerously_permit_weak_or_unset_master_key: true}}
"""


@dataclass(frozen=True)
class Way:
    """A way to the engine."""

    name: str
    port: int
    pid: int  # 0: no process in between

    def cpu(self) -> float:
        """CPU time of all its threads, seconds, as the kernel counts it: system calls included."""
        files = Path(f"/proc/{self.pid}/task").glob("*/schedstat") if self.pid else ()
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9

    def rss(self, which: str = "VmRSS") -> float:
        """Resident memory in MiB: VmRSS now, VmHWM at its peak."""
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines())
        return int(lines[which].split()[0]) / 1024

    def sockets(self) -> int:
        """How many sockets it holds."""
        links = 0
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                links += str(entry.readlink()).startswith("socket:")
        return links


def allow_many_files() -> None:
    """Let this process and its children hold a few thousand connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65536), most))


def pin(pid: int, *, measured: bool) -> None:
    """Give what is measured the first core, and the rest the others."""
    count = os.cpu_count() or 1
    if count > 1:
        os.sched_setaffinity(pid, {0} if measured else set(range(1, count)))


@contextmanager
def undisturbed(pids: Iterable[int]) -> Generator[bool]:
    """These processes and this one go before all others, where that is allowed; for tests that leave time to others.

    Otherwise a delay on a busy machine says how long a process waited for its core, and little of what it does there.
    """
    changed: list[int] = []
    try:
        with suppress(PermissionError, AttributeError):  # not root; not Linux
            for pid in (0, *pids):
                os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(10))
                changed.append(pid)
        yield bool(changed)
    finally:
        for pid in changed:
            os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def role(name: str, *arguments: str, measured: bool = True) -> Generator[Way]:
    """This program in one of its other roles; its first line of output is its port."""
    argv = [sys.executable, _MAIN, "--role", name, *arguments]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        pin(child.pid, measured=measured)
        try:
            yield Way(name, int(cast("IO[str]", child.stdout).readline()), child.pid)
        finally:
            child.terminate()


@contextmanager
def nginx(engine: int, home: Path) -> Generator[Way]:
    """Run nginx as a plain reverse proxy with one worker: connections kept, nothing buffered."""
    port = _free_port()
    config = home / "nginx.conf"
    config.write_text(_NGINX.format(home=home, engine=engine, port=port))
    with _started("nginx", port, ["nginx", "-c", str(config), "-p", str(home)], home / "nginx.log", 10) as path:
        yield path


@contextmanager
def litellm(engine: int, home: Path) -> Generator[Way]:
    """Run LiteLLM's proxy with one worker, one model and nothing else set."""
    port = _free_port()
    config = home / "litellm.yaml"
    config.write_text(_LITELLM.format(engine=engine))
    argv = [str(LITELLM_HOME / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--num_workers", "1"]
    with _started("litellm", port, argv, home / "litellm.log", _LITELLM_SECONDS) as path:
        yield path


def install_litellm() -> None:
    """Make its environment, apart from the project's own."""
    subprocess.run([sys.executable, "-m", "venv", str(LITELLM_HOME)], check=True)
    pip = [str(LITELLM_HOME / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", LITELLM]
    subprocess.run(pip, check=True)


@contextmanager
def _started(name: str, port: int, argv: Sequence[str], log: Path, seconds: float) -> Generator[Way]:
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with log.open("w") as output, subprocess.Popen(argv, stdout=output, stderr=output, env=environment) as child:
        pin(child.pid, measured=True)
        try:
            deadline = time.monotonic() + seconds
            while not _accepts(port):
                if child.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{name} does not listen: {log.read_text()[-2000:]}")
                time.sleep(0.1)
            yield Way(name, port, child.pid)
        finally:
            child.terminate()


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]
