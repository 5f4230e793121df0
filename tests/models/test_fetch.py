import asyncio
import errno
import hashlib
import os
import sys
import time

import pytest
from huggingface_hub import errors as hub_errors

from corral.errors import BadInput, CorralError
from corral.models import hub, hubstore
from corral.models.download import File, part_of
from corral.models.fetch import fetch
from corral.models.hubwords import in_words
from corral.models.inspect import inspect
from corral.models.source import ModelSource, parse_source
from corral.units import MIB
from models.fake_hub import COMMIT, FakeHub

REPO = "someone/tiny-GGUF"

pytestmark = pytest.mark.slow


@pytest.fixture
def source(tmp_path):
    return parse_source(f"{REPO}:Q8_0", tmp_path)


@pytest.fixture
def fake(demo_gguf, monkeypatch):
    hub = FakeHub(REPO, {"tiny-Q8_0.gguf": demo_gguf.read_bytes(), "README.md": b"tiny"})
    with hub.running():
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        yield hub


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def silent(_text, _done, _total):
    pass


async def test_a_model_is_fetched_once_and_then_found_without_the_hub(fake, source, tmp_path, demo_gguf):
    told = []
    path = await fetch(source, tmp_path, lambda *step: told.append(step))
    assert path.read_bytes() == demo_gguf.read_bytes()
    assert inspect(path).demo
    assert told[0] == (f"asking the Hub for {REPO}:Q8_0", 0, 0)
    assert all(done <= total for _, done, total in told)
    assert not (path.parent / "README.md").exists()
    before = len(fake.requests)
    assert await fetch(source, tmp_path, silent) == path
    assert len(fake.requests) == before


async def test_a_download_that_breaks_off_goes_on_where_it_was(fake, source, tmp_path, demo_gguf):
    fake.cut_after = 12_000_000
    path = await fetch(source, tmp_path, silent)
    assert path.read_bytes() == demo_gguf.read_bytes()
    assert [asked for method, _, asked in fake.requests if method == "GET" and asked] == [f"bytes={10 * MIB}-"]


async def test_a_cancelled_fetch_leaves_no_process_and_is_gone_on_with(fake, source, tmp_path, demo_gguf):
    fake.hang_after = 12_000_000
    task = asyncio.create_task(fetch(source, tmp_path, silent))
    assert await asyncio.to_thread(fake.sending.wait, 30)
    part = hubstore.folder_of(source, tmp_path)
    await asyncio.to_thread(wait_for, lambda: any(f.stat().st_size >= 10 * MIB for f in part.glob(".parts/*")))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert hubstore.find(source, tmp_path) is None
    fake.hang_after = None
    path = await fetch(source, tmp_path, silent)
    assert path.read_bytes() == demo_gguf.read_bytes()
    (resumed,) = [asked for method, _, asked in fake.requests if method == "GET" and asked]
    assert int(resumed.removeprefix("bytes=").rstrip("-")) >= 10 * MIB


async def test_a_file_put_together_wrongly_is_noticed_and_fetched_anew(fake, source, tmp_path, demo_gguf):
    fake.sha256 = {"tiny-Q8_0.gguf": hashlib.sha256(demo_gguf.read_bytes()).hexdigest()}
    file = File(repo=REPO, commit=COMMIT, name="tiny-Q8_0.gguf", size=demo_gguf.stat().st_size)
    part = part_of(hubstore.folder_of(source, tmp_path), file)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"something else")
    with pytest.raises(CorralError, match=r"tiny-Q8_0\.gguf of someone/tiny-GGUF arrived damaged"):
        await fetch(source, tmp_path, silent)
    path = await fetch(source, tmp_path, silent)
    assert path.read_bytes() == demo_gguf.read_bytes()


async def test_a_damaged_copy_is_fetched_again(fake, source, tmp_path, demo_gguf):
    path = await fetch(source, tmp_path, silent)
    os.truncate(path, 1000)
    assert hubstore.find(source, tmp_path) is None
    assert (await fetch(source, tmp_path, silent)).read_bytes() == demo_gguf.read_bytes()


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, "RepoNotFound", "has no model someone/tiny-GGUF, or it is private"),
        (403, "GatedRepo", "is gated: its owner asks for consent first"),
        (404, "RevisionNotFound", "has no revision 'main'"),
    ],
)
async def test_what_the_hub_refuses_is_said_in_words(fake, source, tmp_path, status, code, message):
    fake.refuse = {"/api/models/": (status, code)}
    with pytest.raises(CorralError, match=message):
        await fetch(source, tmp_path, silent)


async def test_a_quantization_that_is_not_there_is_refused_with_what_is(fake, tmp_path):
    with pytest.raises(BadInput, match="no file or quantization 'Q9'") as raised:
        await fetch(parse_source(f"{REPO}:Q9", tmp_path), tmp_path, silent)
    assert raised.value.remedy == "It has tiny-Q8_0."


async def test_without_a_hub_the_default_is_the_demo_model_and_others_say_so(source, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    path = await fetch(parse_source("", tmp_path), tmp_path, silent)
    assert inspect(path).demo
    with pytest.raises(CorralError, match=r"could not be fetched from http://127\.0\.0\.1:9"):
        await fetch(source, tmp_path, silent)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CorralError, match="HF_HUB_OFFLINE forbids to fetch it"):
        await fetch(source, tmp_path, silent)


@pytest.mark.parametrize("form", ["gguf", "safetensors"])
async def test_the_demo_model_is_made_once(tmp_path, form):
    told = []
    demo = ModelSource(kind="demo")
    path = await fetch(demo, tmp_path, lambda *step: told.append(step), demo_format=form)
    facts = inspect(path)
    assert (facts.demo, facts.format) == (True, form)
    assert await fetch(demo, tmp_path, silent, demo_format=form) == path
    assert len(told) == 1


async def test_a_demo_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "demo").write_text("in the way")
    with pytest.raises(CorralError, match=r"The demo model could not be made: .*Not a directory"):
        await fetch(ModelSource(kind="demo"), tmp_path, silent)


async def test_a_path_is_taken_as_it_is(tmp_path):
    assert await fetch(parse_source(str(tmp_path), tmp_path), tmp_path / "cache", silent) == tmp_path


def test_a_disk_too_small_is_refused_before_the_download(source, tmp_path):
    with pytest.raises(CorralError, match=r"needs 2097152\.0 TiB more in .*, and .* are free there"):
        hub._check_disk(source, tmp_path, [File(repo=REPO, commit=COMMIT, name="huge.gguf", size=2**61)])


def test_a_disk_that_fills_up_is_said(source):
    full = in_words(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), source)
    assert full.cause == f"The disk filled up while {REPO} was fetched."
    assert in_words(PermissionError(errno.EACCES, "Permission denied", "/cache/x"), source).cause.startswith("/cache/x")


def test_no_error_of_the_hub_s_library_is_without_words(source):
    for error in (hub_errors.LocalEntryNotFoundError("no"), ValueError("x.\ny"), RuntimeError()):
        said = in_words(error, source)
        assert said.cause.endswith(".")
        assert ".." not in said.cause


def test_the_head_s_side_of_a_fetch_loads_no_heavy_library():
    code = (
        "import sys, corral.models.fetch, corral.models.inspect;"
        "sys.exit(bool({'numpy', 'huggingface_hub', 'gguf', 'safetensors'} & set(sys.modules)))"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


def test_the_record_names_the_commit(fake, source, tmp_path):
    path = asyncio.run(fetch(source, tmp_path, silent))
    record = next(path.parent.glob(".corral-*"))
    assert COMMIT in record.read_text()
