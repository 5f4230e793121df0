"""The architecture is read from the files that a model's facts were read from."""

import json

from corral.models.anatomy import read_architecture
from corral.models.architecture import Attention
from corral.models.inspect import inspect
from corral.models.parameters import parameters


def test_a_folder_s_architecture_counts_what_its_tensors_hold(demo_folder):
    facts = inspect(demo_folder)
    found = read_architecture(facts)
    assert (found.layers, found.hidden, found.vocabulary) == (facts.layers, facts.hidden, facts.vocabulary)
    assert isinstance(found.blocks[0].mixer, Attention)
    assert sum(parameters(found).values()) == facts.parameters


def test_what_is_not_known_is_not_guessed(demo_folder, tmp_path):
    facts = inspect(demo_folder)
    assert read_architecture(facts.model_copy(update={"path": str(tmp_path)})) is None
    config = json.loads((demo_folder / "config.json").read_text()) | {"architectures": ["Marvel"], "model_type": "m"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_architecture(facts.model_copy(update={"path": str(tmp_path)})) is None
