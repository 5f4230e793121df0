"""A Hub on loopback with the routes that its library asks for; it can break off, hang and refuse, and counts."""

import json
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """`files` by name are those of the one repository `repo`; `cut_after` bytes the first download breaks off."""

    def __init__(self, repo, files):
        self.repo = repo
        self.files = files
        self.sha256 = {}  # by name, of those that the Hub keeps as large files
        self.cut_after = None
        self.hang_after = None
        self.ranges = True  # answers a part of a file when asked for one
        self.sent = 0  # bytes of files
        self.authorized = []  # paths that were asked for with the user's token
        self.redirect_to = ""  # files are on this host
        self.refuse = {}  # path prefix -> (status, X-Error-Code)
        self.requests = []  # (method, path, Range header)
        self.sending = threading.Event()
        self.released = threading.Event()
        self.url = ""

    @contextmanager
    def running(self):
        server = Server(("127.0.0.1", 0), type("OfThisHub", (Handler,), {"hub": self}))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            self.released.set()
            server.shutdown()
            thread.join()
            server.server_close()


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A client that has read enough hangs up: no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        path = self.path.split("?")[0]
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        if self.headers.get("Authorization"):
            self.hub.authorized.append(path)
        for prefix, (status, code) in self.hub.refuse.items():
            if path.startswith(prefix):
                return self.send(status, b"{}", {"X-Error-Code": code} if code else {}, body=body)
        if path == "/api/models":
            return self.send(200, b"[]", {}, body=body)
        if path.startswith(f"/api/models/{self.hub.repo}"):
            siblings = [self.sibling(name, data) for name, data in self.hub.files.items()]
            info = {
                "id": self.hub.repo,
                "modelId": self.hub.repo,
                "sha": COMMIT,
                "siblings": siblings,
                "private": False,
            }
            return self.send(200, json.dumps(info).encode(), {}, body=body)
        name = path.removeprefix(f"/{self.hub.repo}/resolve/{COMMIT}/")
        if name not in self.hub.files:
            return self.send(404, b"", {"X-Error-Code": "RepoNotFound"}, body=body)
        if self.hub.redirect_to:
            return self.send(302, b"", {"Location": self.hub.redirect_to + path}, body=body)
        return self.send_file(name, body=body)

    def sibling(self, name, data):
        known = self.hub.sha256.get(name)
        lfs = {"lfs": {"size": len(data), "sha256": known, "pointerSize": 135}} if known else {}
        return {"rfilename": name, "size": len(data), **lfs}

    def send_file(self, name, *, body):
        data, start, end = self.hub.files[name], 0, len(self.hub.files[name])
        asked = self.headers.get("Range") if self.hub.ranges else None
        if asked:
            first, last = asked.removeprefix("bytes=").split("-")
            start, end = int(first), min(end, int(last) + 1) if last else end
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{len(data)}-{name}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.end_headers()
        if body:
            self.hub.sent += end - start
            self.send_data(data[start:end])

    def send_data(self, data):
        if self.hub.hang_after is not None:
            self.wfile.write(data[: self.hub.hang_after])
            self.hub.sending.set()
            self.hub.released.wait()
            self.close_connection = True
        elif self.hub.cut_after is not None:
            self.wfile.write(data[: self.hub.cut_after])
            self.hub.cut_after = None
            self.close_connection = True
        else:
            self.wfile.write(data)

    def send(self, status, data, headers, *, body):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)
