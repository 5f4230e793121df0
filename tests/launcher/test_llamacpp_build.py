"""The build script on a small source archive of the same shape: real cmake and ninja, programs that are scripts."""

import contextlib
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

SCRIPT = Path(__file__).parents[2] / "src/corral/launcher/onnode/llamacpp_build.py"
pytestmark = pytest.mark.slow
PATIENCE = 20.0  # seconds that anything here may take at most

# Each program is made by a command that can be made to wait (for the file GATE) or to fail.
CMAKE = """
cmake_minimum_required(VERSION 3.14)
project(fake NONE)
foreach(program llama-server ggml-rpc-server)
  add_custom_target(${program} COMMAND sh ${CMAKE_SOURCE_DIR}/make.sh ${CMAKE_BINARY_DIR}/bin ${program})
endforeach()
"""
MAKE = """
echo $$ >>"$FAKE_DIR/pids"
if [ -n "$FAKE_GATE" ]; then until [ -e "$FAKE_GATE" ]; do sleep 0.02; done; fi
if [ -n "$FAKE_ERROR" ]; then echo "x.cpp:7:1: error: $FAKE_ERROR"; exit 1; fi
mkdir -p "$1" && printf '#!/bin/sh\\nexit %s\\n' "${FAKE_STATUS:-0}" >"$1/$2" && chmod +x "$1/$2"
"""


# What pip asks a source package before it hands it over.
BACKEND = """
import os
def prepare_metadata_for_build_wheel(folder, settings=None):
    name = "llama_cpp_python-1.0.dist-info"
    os.mkdir(os.path.join(folder, name))
    with open(os.path.join(folder, name, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: llama-cpp-python\\nVersion: 1.0\\n")
    return name
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with a source archive; programs of the fake build look for their orders in FAKE_*."""
    monkeypatch.setenv("FAKE_DIR", str(tmp_path))
    archive(tmp_path / "source.tar.gz")
    return tmp_path


def archive(path, **more):
    files = {"CMakeLists.txt": CMAKE, "make.sh": MAKE, "docs/big.txt": "x", **more}
    with tarfile.open(path, "w:gz") as packed:
        for name, text in files.items():
            member = tarfile.TarInfo(f"llama_cpp_python-1.0/vendor/llama.cpp/{name}")
            member.size = len(text)
            packed.addfile(member, io.BytesIO(text.encode()))
        for name, text in {"pyproject.toml": PYPROJECT, "backend.py": BACKEND}.items():
            member = tarfile.TarInfo(f"llama_cpp_python-1.0/{name}")
            member.size = len(text)
            packed.addfile(member, io.BytesIO(text.encode()))


def request(lab, **changes):
    pinned = hashlib.sha256((lab / "source.tar.gz").read_bytes()).hexdigest()
    values = {
        "cache": str(lab / "cache"),
        "digest": "0123456789ab",
        "source": f"llama-cpp-python==1.0 --hash=sha256:{pinned}",
        "options": ["FAKE=ON"],
        "targets": ["llama-server", "ggml-rpc-server"],
        "archive": str(lab / "source.tar.gz"),
    }
    return values | changes


@contextlib.contextmanager
def running(asked, **env):
    """Start the script; its standard input stays open until the context is left."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )
    try:
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        yield process
    finally:
        process.stdin.close()
        process.wait(PATIENCE)
        process.stdout.close()
        process.stderr.close()


def run(asked, **env):
    """Run the script to its end; what it told, and its exit status."""
    with running(asked, **env) as process:
        told = [json.loads(line) for line in process.stdout]
        status = process.wait(PATIENCE)
        assert process.stderr.read() == ""
    return told, status


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def pids(lab):
    path = lab / "pids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def alive(pid):
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def module():
    found = importlib.util.spec_from_file_location("llamacpp_build", SCRIPT)
    loaded = importlib.util.module_from_spec(found)
    found.loader.exec_module(loaded)
    return loaded


def test_builds_once_and_reuses(lab):
    told, status = run(request(lab))
    again, _ = run(request(lab))

    folder = lab / "cache/envs/0123456789ab"
    progress = [line["progress"] for line in told[:-1]]
    assert status == 0
    assert told[-1]["done"]["folder"] == str(folder)
    assert told[-1]["done"]["built"]
    assert progress == sorted(progress)
    assert any(line["text"] == "compiling 2 of 2" for line in told[:-1])
    assert {path.name for path in (folder / "bin").iterdir()} == {"llama-server", "ggml-rpc-server"}
    assert again == [{"done": {"folder": str(folder), "built": False, "seconds": 0.0}}]
    assert {path.name for path in folder.parent.iterdir()} == {"0123456789ab", "0123456789ab.lock"}


def test_fetches_the_source_by_pip_as_the_user_configured_it(lab):
    asked = request(lab, archive=None)
    (lab / "links").mkdir()
    (lab / "source.tar.gz").rename(lab / "links/llama_cpp_python-1.0.tar.gz")
    told, status = run(asked, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(lab / "links"))

    assert (status, told[-1].get("error")) == (0, None)
    assert {"progress": 0.02, "text": "fetching llama-cpp-python==1.0"} in told


def test_source_that_cannot_be_had(lab):
    told, status = run(request(lab, archive=None), PIP_NO_INDEX="1")

    assert status == 1
    assert "no llama.cpp source of the pinned version, or cannot be reached" in told[-1]["error"]["cause"]


def test_second_asker_waits_for_the_first_and_tells_its_progress(lab):
    gate = str(lab / "gate")
    with running(request(lab), FAKE_GATE=gate) as first:
        until(lambda: pids(lab))
        with running(request(lab), FAKE_GATE=gate) as second:
            waited = json.loads(second.stdout.readline())
            (lab / "gate").touch()
            last = json.loads(second.stdout.readlines()[-1])
        first_last = json.loads(first.stdout.readlines()[-1])

    assert "being made by another" in waited["text"]
    assert first_last["done"]["built"]
    assert not last["done"]["built"]
    assert len(pids(lab)) == 2  # one a program: built once


@pytest.mark.parametrize("how", ["input closes", signal.SIGTERM, signal.SIGHUP])
def test_everything_ends_when_the_asker_goes(lab, how):
    with running(request(lab), FAKE_GATE=str(lab / "never")) as process:
        until(lambda: len(pids(lab)) == 2)
        if how == "input closes":
            process.stdin.close()
        else:
            process.send_signal(how)
        assert process.wait(PATIENCE) == 143
        assert process.stderr.read() == ""

    until(lambda: not any(alive(pid) for pid in pids(lab)))
    assert not (lab / "cache/envs/.0123456789ab.build").exists()
    told, status = run(request(lab))
    assert (status, told[-1]["done"]["built"]) == (0, True)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("cannot write: No space left on device", "disk filled up"),
        ("fatal error: Killed signal terminated program cc1plus", "ran out of memory"),
        ("expected ';'", "Compiling ended with status 1: .*x.cpp:7:1: error: expected"),
    ],
)
def test_failed_compilation_tells_the_cause(lab, said, words):
    told, status = run(request(lab), FAKE_ERROR=said)

    error = told[-1]["error"]
    log = lab / "cache/envs/0123456789ab.log"
    assert status == 1
    assert re.search(words, error["cause"])
    assert said in log.read_text()
    assert not (lab / "cache/envs/0123456789ab/corral.json").exists()


def test_programs_that_do_not_start_are_not_finished(lab):
    told, status = run(request(lab), FAKE_STATUS="132")

    assert (status, "Starting llama-server ended with status 132" in told[-1]["error"]["cause"]) == (1, True)
    assert not (lab / "cache/envs/0123456789ab/corral.json").exists()


def test_no_compiler(lab):
    tools = lab / "tools"
    tools.mkdir()
    for name in ("cmake", "ninja", "sh"):
        (tools / name).symlink_to(shutil.which(name))
    told, status = run(request(lab), PATH=str(tools))

    assert status == 1
    assert told[-1]["error"]["cause"] == "There is no C++ compiler on the node."
    assert "apt install g++" in told[-1]["error"]["remedy"]


def test_source_must_be_the_pinned_one(lab):
    asked = request(lab)
    archive(lab / "source.tar.gz", more="x")
    told, status = run(asked)

    assert (status, "is not the pinned source" in told[-1]["error"]["cause"]) == (1, True)


def test_damaged_and_missing_archives(lab):
    path = lab / "source.tar.gz"
    path.write_bytes(path.read_bytes()[:200])
    damaged, _ = run(request(lab))
    asked = request(lab)
    path.unlink()
    missing, _ = run(asked)

    assert "is damaged" in damaged[-1]["error"]["cause"]
    assert "There is no source archive" in missing[-1]["error"]["cause"]


def test_unpacks_only_what_is_needed_and_nothing_outside(lab):
    archive(lab / "source.tar.gz", **{"../../../evil.txt": "x", "src/a.cpp": "int a;"})
    module().unpack(lab / "source.tar.gz", "llama-cpp-python==1.0", lab / "tree")

    names = {str(path.relative_to(lab / "tree")) for path in (lab / "tree").rglob("*")}
    assert names == {"CMakeLists.txt", "make.sh", "src", "src/a.cpp"}
    assert not (lab / "evil.txt").exists()


def test_a_machine_of_another_kind_builds_its_own(lab):
    run(request(lab))
    marker = lab / "cache/envs/0123456789ab/corral.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"machine": "another"}))
    told, _ = run(request(lab))
    again, _ = run(request(lab))

    kind = module().machine_kind()
    assert told[-1]["done"]["folder"] == str(lab / f"cache/envs/0123456789ab-{kind}")
    assert again[-1]["done"] == {"folder": told[-1]["done"]["folder"], "built": False, "seconds": 0.0}


def test_too_little_disk(lab, monkeypatch):
    build = module()
    monkeypatch.setattr(build.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**8))
    (lab / "cache/envs").mkdir(parents=True)

    with pytest.raises(build.BuildError, match="has 100 MB free") as caught:
        build.ensure(request(lab), build.Teller())
    assert "Free some space" in caught.value.remedy


def test_cache_that_cannot_be_written(lab):
    (lab / "cache").write_text("in the way")
    told, status = run(request(lab))

    assert status == 1
    assert "Not a directory" in told[-1]["error"]["cause"] or "File exists" in told[-1]["error"]["cause"]
