"""Open WebUI before a real `corral up` behind a key: a person signs up, signs in, sees the model and chats."""

import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from clients.environments import python_environment
from e2e.program import Corral, base_url, free_port

pytestmark = pytest.mark.slow
PERSON = {"name": "Ada", "email": "ada@example.org", "password": "a long enough password"}
CHAT = {"model": "default", "messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": 12}


class WebUi:
    """The program, and its HTTP interface as its pages use it."""

    def __init__(self, folder, url, key):
        self.url = f"http://127.0.0.1:{free_port()}"
        self.token = ""
        self.log = folder / "webui.log"
        settings = {
            "DATA_DIR": str(folder / "data"),
            "HOME": str(folder),
            "WEBUI_SECRET_KEY": "for this test",
            "OPENAI_API_BASE_URLS": url,
            "OPENAI_API_KEYS": key,
            "ENABLE_OLLAMA_API": "False",
            "OFFLINE_MODE": "True",
            "HF_HUB_OFFLINE": "1",
            "ANONYMIZED_TELEMETRY": "False",
            "SCARF_NO_ANALYTICS": "True",
            "DO_NOT_TRACK": "True",
        }
        program = python_environment("open-webui").with_name("open-webui")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [program, "serve", "--host", "127.0.0.1", "--port", self.url.rpartition(":")[2]],
                env=os.environ | settings, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def open(self, path, value=None, timeout=60.0):
        request = urllib.request.Request(self.url + path, json.dumps(value).encode() if value is not None else None)
        request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        return urllib.request.urlopen(request, timeout=timeout)

    def ask(self, path, value=None):
        with self.open(path, value) as answer:
            return json.load(answer)

    def wait(self, seconds=180.0):
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError), self.open("/health", timeout=5):
                return
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            time.sleep(0.2)

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def corral(tmp_path_factory):
    runner = Corral(tmp_path_factory.mktemp("corral") / "state")
    yield runner
    runner.end()


@pytest.fixture(scope="module")
def key(corral):
    return corral.json("keys", "create", "open-webui", "--model", "default")["secret"]


@pytest.fixture(scope="module")
def webui(corral, key, tmp_path_factory):
    told = corral("up", "--detach", "--port", 0, "--context", 2048)
    started = WebUi(tmp_path_factory.mktemp("webui"), base_url(told), key)
    try:
        started.wait()
        started.token = started.ask("/api/v1/auths/signup", PERSON)["token"]  # the first one may
        started.token = started.ask("/api/v1/auths/signin", PERSON)["token"]
        yield started
    finally:
        started.end()


def test_it_lists_the_model(webui):
    assert [model["id"] for model in webui.ask("/api/models")["data"]] == ["default"]


def test_it_chats(webui):
    answer = webui.ask("/api/chat/completions", {**CHAT, "stream": False})
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] > 0


def test_it_chats_in_a_stream(webui):
    with webui.open("/api/chat/completions", {**CHAT, "stream": True}) as answer:
        events = [line.removeprefix(b"data: ").strip() for line in answer if line.startswith(b"data: ")]
    assert events[-1] == b"[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c.get("choices"))


def test_what_it_used_is_counted_under_its_key(webui, corral):
    def counted():
        told = corral("usage", "--json").stdout
        return "open-webui" in told and told

    told = json.loads(corral.wait_for(counted, "the usage", 15))
    assert told["schema"].startswith("corral.usage/")


def test_a_revoked_key_is_told_to_the_person(webui, corral):
    corral("keys", "revoke", "open-webui")

    def refused():
        try:
            webui.ask("/api/chat/completions", {**CHAT, "stream": False})
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode()
        return None

    assert "key" in corral.wait_for(refused, "the refusal", 15)


def test_no_key_was_told_to_any_log(webui, corral, key):
    logs = [*corral.home.rglob("*.log"), *corral.home.rglob("*.db*"), webui.log]
    assert corral.home / "logs" / "head.log" in logs
    assert not [log for log in logs if key.encode() in log.read_bytes()]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            assert key.encode() not in file.read(), pid
