"""The environment script with real pip on small wheels of the test's own; nothing is fetched from anywhere."""

import contextlib
import errno
import fcntl
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import threading
import time
import zipfile
from pathlib import Path

import pip
import pytest

from corral.launcher.node import script
from corral.launcher.onnode import building

SCRIPT = Path(__file__).parents[2] / "src/corral/launcher/onnode/environment.py"
pytestmark = pytest.mark.slow
PATIENCE = 60.0  # seconds that anything here may take at most
# `python -m venv` spends seconds on unpacking pip; this one borrows the pip that runs the tests.
QUICK_VENV = """
import importlib.util, os, sys, sysconfig
real = os.path.join(sysconfig.get_path("stdlib"), "venv", "__init__.py")
spec = importlib.util.spec_from_file_location("real_venv", real)
venv = importlib.util.module_from_spec(spec)
spec.loader.exec_module(venv)
venv.create(sys.argv[1], with_pip=False, symlinks=True)
packages = sysconfig.get_path("purelib", "venv", {"base": sys.argv[1], "platbase": sys.argv[1]})
os.symlink(PIP, os.path.join(packages, "pip"))
"""
# What Debian's python3 says without the package python3-venv.
NO_VENV = """
print("The virtual environment was not created successfully because ensurepip is not\\navailable.  On Debian/Ubuntu "
      "systems, you need to install the python3-venv\\npackage using the following command.")
raise SystemExit(1)
"""


def wheel(folder, name, version="1.0", *, needs=()):
    """Write a wheel with one module."""
    info = f"{name}-{version}.dist-info"
    required = "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as packed:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            packed.writestr(path, text)


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A folder of wheels, which pip is told of by its user's configuration."""
    wheels, modules = tmp_path / "wheels", tmp_path / "modules"
    wheels.mkdir()
    modules.mkdir()
    wheel(wheels, "saddle", needs=("stirrup==2.0",))
    wheel(wheels, "bridle")
    (modules / "venv.py").write_text(QUICK_VENV.replace("PIP", repr(str(Path(pip.__file__).parent))))
    monkeypatch.setenv("PYTHONPATH", str(modules))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return tmp_path


def request(shop, **changes):
    values = {
        "cache": str(shop / "cache"),
        "digest": "0123456789ab",
        "name": "tack",
        "requirements": ["saddle==1.0", "bridle==1.0"],
        "closed": True,
        "pythons": [],
        "remove": [],
        "files": [],
        "proof": "import saddle",
    }
    return values | changes


@contextlib.contextmanager
def running(asked):
    """Start the script; its standard input stays open until the context is left."""
    process = subprocess.Popen([sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        timer = threading.Timer(PATIENCE, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()


def answered(asked):
    """Run the script to its end: what it told, the last line apart."""
    with running(asked) as process:
        told = [json.loads(line) for line in process.stdout]
    return told[:-1], told[-1]


def done(asked):
    _, last = answered(asked)
    assert "done" in last, last
    return last["done"]


def refused(asked):
    _, last = answered(asked)
    assert "error" in last, last
    return last["error"]


def says(folder, statement):
    python = Path(folder) / "bin" / "python"
    return subprocess.run([python, "-c", statement], capture_output=True, text=True, check=False).stdout.strip()


def text_of(process, word):
    """Read on until a progress line has this word."""
    for line in process.stdout:
        if word in json.loads(line).get("text", ""):
            return
    pytest.fail(f"it never said {word!r}")


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- what is made


def test_an_environment_is_made_once_and_reused(shop):
    told, last = answered(request(shop))
    again = done(request(shop))

    assert last["done"]["built"]
    assert not again["built"]
    assert again["folder"] == last["done"]["folder"]
    fractions = [line["progress"] for line in told]
    assert fractions == sorted(fractions)
    assert any("installing package" in line["text"] for line in told)
    assert says(again["folder"], "import saddle; print(saddle.version)") == "1.0"


def test_a_closed_environment_has_only_what_is_named(shop):
    """Saddle asks for a stirrup that is nowhere to be had."""
    folder = done(request(shop))["folder"]

    assert says(folder, "import importlib.metadata as m; print(sorted(d.name for d in m.distributions()))") == (
        "['bridle', 'saddle']"
    )


def test_an_open_environment_has_what_its_packages_ask_for(shop):
    wheel(shop / "wheels", "stirrup", "2.0")

    folder = done(request(shop, closed=False))["folder"]

    assert says(folder, "import stirrup; print(stirrup.version)") == "2.0"


def test_packages_are_removed_and_files_written(shop):
    files = [["corral_plugin/__init__.py", "word = 'neigh'\n"], ["bridle-9.dist-info/METADATA", "Name: bridle\n"]]

    folder = done(request(shop, remove=["bridle"], files=files, proof="import corral_plugin"))["folder"]

    assert says(folder, "import bridle") == ""
    assert says(folder, "import corral_plugin; print(corral_plugin.word)") == "neigh"


def test_a_file_outside_the_environment_is_refused(shop):
    error = refused(request(shop, files=[["../../../../../stolen", "x"]]))

    assert "outside" in error["cause"]
    assert not (shop / "stolen").exists()


# -- what is broken is made anew


def test_an_unfinished_folder_is_made_anew(shop):
    folder = Path(done(request(shop))["folder"])
    (folder / "corral-env.json").unlink()
    (folder / "leftover").touch()

    assert done(request(shop))["built"]
    assert not (folder / "leftover").exists()


def test_an_environment_whose_python_went_away_is_made_anew(shop):
    folder = Path(done(request(shop))["folder"])
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to("/nowhere/python")

    assert done(request(shop))["built"]


def test_a_failed_proof_leaves_only_the_log(shop):
    error = refused(request(shop, proof="raise RuntimeError('lame')"))

    assert "does not work" in error["cause"]
    assert "lame" in error["cause"]
    assert [path.suffix for path in (shop / "cache/envs").iterdir() if path.suffix != ".lock"] == [".log"]


# -- together and alone


def test_the_second_waits_for_the_first(shop):
    gate = shop / "gate"
    proof = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.02)"
    with running(request(shop, proof=proof)) as first:
        text_of(first, "trying")
        with running(request(shop, proof=proof)) as second:
            text_of(second, "being made by another")
            gate.touch()
            told = [json.loads(process.stdout.readlines()[-1])["done"] for process in (first, second)]

    assert [one["built"] for one in told] == [True, False]
    assert told[0]["folder"] == told[1]["folder"]


def test_a_lost_connection_ends_everything(shop):
    pid = shop / "pid"
    proof = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with running(request(shop, proof=proof)) as process:
        until(lambda: pid.exists() and pid.read_text())
        process.stdin.close()
        process.stdout.read()
        status = process.wait(PATIENCE)

    assert status == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert done(request(shop))["built"]


# -- what a person must do


def test_a_package_that_is_not_there(shop):
    error = refused(request(shop, requirements=["nosuch==1.0"]))

    assert "no nosuch==1.0" in error["cause"]
    assert "pip config list" in error["remedy"]


def test_a_cpu_build_that_is_not_there(shop):
    error = refused(request(shop, requirements=["torch==2.13.0+cpu"]))

    assert "no torch==2.13.0+cpu" in error["cause"]
    assert "index of their own" in error["remedy"]


def test_no_network(shop, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")

    error = refused(request(shop, requirements=["nosuch==1.0"]))

    assert "cannot be reached" in error["cause"]


def test_no_venv_module(shop):
    (shop / "modules/venv.py").write_text(NO_VENV)

    error = refused(request(shop))

    assert "venv module is missing" in error["cause"]
    assert "python3-venv" in error["remedy"]


def test_a_python_that_the_packages_are_not_made_for(shop):
    error = refused(request(shop, pythons=["2.7"]))

    assert "exist for 2.7" in error["cause"]


def test_a_cache_that_cannot_be_written(shop):
    (shop / "cache").write_text("a file")

    error = refused(request(shop))

    assert str(shop / "cache") in error["cause"]


@pytest.fixture
def module():
    spec = importlib.util.spec_from_file_location("environment", SCRIPT)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules["environment"] = loaded
    spec.loader.exec_module(loaded)
    yield loaded
    del sys.modules["environment"]


def shell(module, log):
    return building.Shell(log, module.FAILURES, {"name": "tack", "cache": "/cache", "python": "python3"}, {})


# Lines that pip printed in each of these cases.
OUTPUTS = {
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device": "The disk filled up",
    "WARNING: Retrying (Retry(total=4, connect=None)) after connection broken by 'NewConnectionError('<pip._vendor"
    ".urllib3.connection.HTTPSConnection object at 0x7f>: Failed to establish a new connection: [Errno -3] Temporary "
    "failure in name resolution')': /simple/ray/\nERROR: No matching distribution found for ray==2.60.0": "reached",
    "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] verify failed'))": "certificate",
    "      error: command 'x86_64-linux-gnu-gcc' failed: No such file or directory": "compiler",
    "      fatal error: Python.h: No such file or directory": "compiler",
    "building wheel\nKilled": "was killed",
}


@pytest.mark.parametrize("output", OUTPUTS)
def test_known_outputs_have_a_cause(module, tmp_path, output):
    log = tmp_path / "log"
    log.write_text(f"\n$ pip install\n{output}\n")

    error = shell(module, log)._failed("pip install", 1)

    assert OUTPUTS[output] in error.cause
    assert error.remedy


def test_an_unknown_output_is_quoted(module, tmp_path):
    log = tmp_path / "log"
    log.write_text("\n$ pip install\nERROR: the horse is out of the barn\n")

    error = shell(module, log)._failed("pip install", 3)

    assert error.cause == "pip install ended with status 3: ERROR: the horse is out of the barn"
    assert str(log) in error.remedy


# -- where there is no flock


@pytest.fixture
def no_flock(monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(building, "BEAT_SECONDS", 0.05)
    return building


def test_a_folder_is_the_lock_where_there_is_no_flock(no_flock, tmp_path):
    with no_flock.locked(tmp_path / "env.lock", no_flock.Teller()):
        assert (tmp_path / "env.held").is_dir()
    until(lambda: not (tmp_path / "env.held").exists())


def test_a_lock_of_a_dead_holder_is_taken_over(no_flock, tmp_path, monkeypatch):
    monkeypatch.setattr(no_flock, "STALE_SECONDS", 0.3)
    (tmp_path / "env.held").mkdir()

    with no_flock.locked(tmp_path / "env.lock", no_flock.Teller()):
        assert (tmp_path / "env.held").is_dir()


def test_a_lock_of_a_live_holder_is_not_taken_over(no_flock, tmp_path, monkeypatch):
    monkeypatch.setattr(no_flock, "STALE_SECONDS", 0.3)
    order = []

    def second():
        with no_flock.locked(tmp_path / "env.lock", no_flock.Teller()):
            order.append("second")

    with no_flock.locked(tmp_path / "env.lock", no_flock.Teller()):
        other = threading.Thread(target=second)
        other.start()
        other.join(1.0)
        order.append("first")
    other.join(PATIENCE)

    assert order == ["first", "second"]


@pytest.mark.slow
def test_with_pythons_own_venv(shop, monkeypatch):
    monkeypatch.delenv("PYTHONPATH")

    assert done(request(shop))["built"]


def test_this_python_has_a_tag(module):
    version = "".join(sysconfig.get_python_version().split("."))

    assert module.tag_of(sys.executable).startswith(f"py{version}-")


def test_a_node_gets_what_scripts_share_along_with_the_script(tmp_path):
    asked = {"cache": str(tmp_path), "digest": "0123456789ab", "name": "tack", "pythons": ["2.7"]}
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", script("environment")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
    ) as process:
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        told = json.loads(process.stdout.readline())

    assert "exist for 2.7" in told["error"]["cause"]


def test_lines_of_two_threads_are_told_whole():
    code = """
import sys, threading
from corral.launcher.onnode.building import tell
sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=lambda: [tell({"text": "x" * 50}) for _ in range(300)]) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""
    told = subprocess.run([sys.executable, "-u", "-c", code], capture_output=True, check=True, text=True).stdout
    assert [json.loads(line) for line in told.splitlines()] == [{"text": "x" * 50}] * 1200
