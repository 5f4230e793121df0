"""Starts the ranks of a launch as plain processes, to test what llama.cpp itself does; knows no launcher."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys

# Asks until there is an answer; run where the API is.
ASK = """
import json, sys, time, urllib.request
url, body, patience = sys.argv[1], sys.argv[2].encode(), float(sys.argv[3])
deadline = time.monotonic() + patience
while True:
    try:
        request = urllib.request.Request(url, body, {"content-type": "application/json"})
        print(urllib.request.urlopen(request, timeout=patience).read().decode())
        break
    except OSError as error:
        loading = getattr(error, "code", 503) == 503
        if not loading or time.monotonic() > deadline:
            sys.exit(f"{error}: {error.read().decode() if hasattr(error, 'read') else ''}")
        time.sleep(0.02)
"""
LISTENS = """
import socket, sys, time
deadline = time.monotonic() + 20
while True:
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()
        break
    except OSError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.02)
"""


class Gang:
    """The running ranks of one launch. `enter(node, argv)` gives the command that runs argv on a node."""

    def __init__(self, spec, folder, enter):
        self.spec, self.folder, self.enter = spec, folder, enter
        self.processes = {}

    def __enter__(self):
        try:
            for rank in self.spec.ranks:
                self.start(rank)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_):
        self.end()

    def start(self, rank):
        for name, text in rank.files.items():
            (self.folder / name).write_text(text)
        argv = ["env", *(f"{name}={value}" for name, value in rank.env.items()), *rank.argv]
        with self.log(rank.name).open("wb") as log:
            self.processes[rank.name] = subprocess.Popen(
                self.enter(rank.node, argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        if rank.name != "server":  # whoever comes after waits for it
            self.run(rank.node, [sys.executable, "-c", LISTENS, rank.ready.address, str(rank.ready.port)])

    def end(self):
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.processes.values():
            process.wait(10)

    def log(self, rank):
        return self.folder / f"{rank}.log"

    def run(self, node, argv):
        done = subprocess.run(self.enter(node, argv), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr + self.log("server").read_text()
        return done.stdout

    def ask(self, path, body, patience=20):
        """POST as soon as the API answers."""
        api = self.spec.api
        url = f"http://{api.host}:{api.port}{path}"
        return json.loads(self.run(api.node, [sys.executable, "-c", ASK, url, json.dumps(body), str(patience)]))

    def wait(self, rank, seconds=20):
        """Wait for a rank's end; its exit status."""
        return self.processes[rank].wait(seconds)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
