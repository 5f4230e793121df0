"""What comes before the first rank, on hosts that do what a test says."""

import os
import re
from importlib.metadata import version
from pathlib import Path

import pytest

from corral.engines.base import ExistingEnvironment, PythonEnvironment
from corral.errors import BadInput, NodeFailed
from corral.hosts.local import Local
from corral.launcher.environments import ensure_all, satisfied_here
from corral.launcher.modelfiles import place_all
from corral.launcher.node import Node
from corral.launcher.prepare import identity_of, look
from corral.models.values import ModelFacts
from launcher.test_planning import FACTS, MODEL


class Elsewhere(Local):
    """This machine, taken for another one: what is local to Corral is not assumed there."""

    is_local = False


class Told(list):
    """Collects what is reported."""

    def __call__(self, stage, text, *, fraction=None, subject=""):
        self.append((stage, subject, text, fraction))


@pytest.fixture
async def node():
    host = Elsewhere("far")
    yield Node(host, address="127.0.0.1")
    await host.close()


@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B:Q8_0", "x" * 96, "ünïcode", "--", "a b"])
def test_a_launch_has_a_name_fit_for_folders(name):
    assert re.fullmatch(r"[a-z0-9-]{1,48}", identity_of(name, "0123abcd"))


async def test_every_node_is_asked_and_tells_what_it_is(node):
    told = Told()
    facts = await look({"far": node}, told)
    assert facts["far"].cores >= 1
    assert ("nodes", "far") in {(stage, subject) for stage, subject, _, fraction in told if fraction == 1.0}


async def test_a_node_without_python_is_named():
    host = Elsewhere("bare")
    with pytest.raises(NodeFailed, match=r"bare has no /no/python"):
        await look({"bare": Node(host, address="127.0.0.1", python="/no/python")}, Told())
    await host.close()


def test_corral_s_own_packages_serve_where_they_are_the_pinned_ones():
    exact = PythonEnvironment(name="own", requirements=(f"numpy=={version('numpy')}",), proof="import numpy")
    other = PythonEnvironment(name="own", requirements=("numpy==0.1",), proof="import numpy")
    missing = PythonEnvironment(name="own", requirements=("no-such-package==1",), proof="")
    assert [satisfied_here(wanted) for wanted in (exact, other, missing)] == [True, False, False]


async def test_an_environment_that_the_user_named_must_be_one(node, tmp_path):
    wanted = {"far": ExistingEnvironment(name="vllm", path=str(tmp_path))}
    with pytest.raises(BadInput, match="has no folder bin/"):
        await ensure_all(wanted, {"far": node}, {"far": FACTS}, Told())
    (tmp_path / "bin").mkdir()
    assert await ensure_all(wanted, {"far": node}, {"far": FACTS}, Told()) == {"far": str(tmp_path)}


async def test_an_environment_that_cannot_be_made_says_why(node, tmp_path):
    wanted = {"far": PythonEnvironment(name="odd", requirements=(), pythons=("2.7",), proof="")}
    facts = FACTS.model_copy(update={"cache": str(tmp_path)})
    with pytest.raises(NodeFailed, match="odd could not be made on far") as caught:
        await ensure_all(wanted, {"far": node}, {"far": facts}, Told())
    assert caught.value.remedy


def model(folder, **change):
    file = folder / "small.gguf"
    file.write_bytes(b"weights" * 1000)
    size = file.stat().st_size
    return MODEL.model_copy(update={"path": str(file), "files": (("small.gguf", size),)} | change)


async def test_a_model_that_a_node_has_at_the_same_path_is_not_copied(node, tmp_path):
    here = model(tmp_path)
    assert await place_all(here, ["far"], {"far": node}, {"far": FACTS}, Told()) == {"far": here.path}


async def test_a_model_that_a_node_lacks_is_copied_once_and_a_changed_one_again(node, tmp_path):
    here = model(tmp_path)
    lacking: ModelFacts = here.model_copy(update={"path": here.path})
    facts = FACTS.model_copy(update={"cache": str(tmp_path / "cache")})

    class Lacks(Node):
        """A node that does not see this machine's files."""

        async def present(self, folder, wanted):
            return {} if folder == str(tmp_path) else await super().present(folder, wanted)

    far = Lacks(node.host, address="127.0.0.1")
    first = (await place_all(lacking, ["far"], {"far": far}, {"far": facts}, told := Told()))["far"]
    assert first.startswith(facts.cache)
    assert Path(first).read_bytes() == Path(here.path).read_bytes()
    assert any("copying" in text for _, _, text, _ in told)
    again = (await place_all(lacking, ["far"], {"far": far}, {"far": facts}, told := Told()))["far"]
    assert again == first
    assert not any("copying" in text for _, _, text, _ in told)
    Path(here.path).write_bytes(b"changed" * 1000)
    assert (await place_all(lacking, ["far"], {"far": far}, {"far": facts}, Told()))["far"] != first


async def test_a_copy_tells_how_far_it_is_within_a_file_and_as_a_whole(node, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name, size in (files := (("a.safetensors", 3 * 1024**2), ("b.safetensors", 1024**2))):
        (folder / name).write_bytes(os.urandom(size))
    here = MODEL.model_copy(update={"path": str(folder), "format": "safetensors", "files": files})
    facts = FACTS.model_copy(update={"cache": str(tmp_path / "cache")})
    (tmp_path / "empty").mkdir()
    far = Replaced(node.host, tmp_path / "empty", folder)
    await place_all(here, ["far"], {"far": far}, {"far": facts}, told := Told())
    texts = {text: fraction for _, _, text, fraction in told}
    assert texts["copying a.safetensors, 0 B of 3.0 MiB"] == 0
    assert texts["copying a.safetensors, 2.0 MiB of 3.0 MiB"] == 0.5
    assert texts["copying b.safetensors, 0 B of 1.0 MiB"] == 0.75
    fractions = [fraction for _, _, _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[-2:] == [0.99, 1.0]


class Replaced(Node):
    """A node that has files of its own where this machine has the model."""

    def __init__(self, host, theirs, ours):
        super().__init__(host, address="127.0.0.1")
        self._theirs, self._ours = theirs, ours

    async def present(self, folder, wanted):
        return await super().present(str(self._theirs) if folder == str(self._ours) else folder, wanted)


async def test_another_model_of_the_same_size_at_the_same_path_is_not_taken_for_this_one(node, tmp_path):
    here = model(tmp_path)
    other = tmp_path / "other" / "small.gguf"
    other.parent.mkdir()
    other.write_bytes(b"WEIGHTS" * 1000)
    facts = FACTS.model_copy(update={"cache": str(tmp_path / "cache")})
    far = Replaced(node.host, other.parent, tmp_path)
    placed = (await place_all(here, ["far"], {"far": far}, {"far": facts}, Told()))["far"]
    assert placed.startswith(facts.cache)
    assert Path(placed).read_bytes() == Path(here.path).read_bytes()
    assert other.read_bytes() == b"WEIGHTS" * 1000, "the user's own file is left as it is"

    Path(placed).write_bytes(b"weightS" * 1000)
    assert (await place_all(here, ["far"], {"far": far}, {"far": facts}, Told()))["far"] == placed
    assert Path(placed).read_bytes() == Path(here.path).read_bytes(), "a spoilt copy is replaced"


async def test_a_model_that_changed_since_it_was_looked_at_is_named(node, tmp_path):
    here = model(tmp_path)
    Path(here.path).write_bytes(b"shorter")
    with pytest.raises(BadInput, match=r"small\.gguf cannot be read, or changed"):
        await place_all(here, ["far"], {"far": node}, {"far": FACTS}, Told())


async def test_a_disk_without_room_is_named_before_anything_is_copied(node, tmp_path):
    here = model(tmp_path)
    facts = FACTS.model_copy(update={"cache": str(tmp_path / "cache"), "disk_free": 1000})

    class Lacks(Node):
        async def present(self, folder, wanted):
            return {}

    with pytest.raises(NodeFailed, match="far has 1000 B free"):
        await place_all(here, ["far"], {"far": Lacks(node.host, address="127.0.0.1")}, {"far": facts}, Told())
    assert not (tmp_path / "cache").exists()
