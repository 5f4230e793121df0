"""The cluster file: what a person may write, what is refused and how, and that nothing is lost on the way back."""

import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from cluster.strategies import clusters
from corral.cluster.endpoint import EndpointSettings
from corral.cluster.file import dump, load, parse
from corral.cluster.served import Residency, ServedModel
from corral.cluster.values import (
    Circuit,
    Cluster,
    Cpu,
    Device,
    Disk,
    EngineSetting,
    Link,
    Nic,
    Node,
    Price,
    Ssh,
    Storage,
)
from corral.errors import BadInput

GOOD = """\
name: home
nodes:
  - &spark
    name: spark1
    address: 10.0.0.1
    memory: 119.7 GiB
    cpu: {cores: 20}
    devices:
      - {name: gb10, vendor: nvidia, memory: 119.7 GiB, unified: true, power_limit: 240 W}
    engines: {vllm: {environment: /opt/vllm}}
  - <<: *spark
    name: spark2
    address: 10.0.0.2
links:
  - between: [spark1, spark2]
    kind: roce-200g
    latency: 2 us
circuits:
  - {name: wall, volts: 120 V, amps: 15 A, nodes: [spark1]}
price_per_kwh: {amount: 0.18, currency: EUR}
"""


def test_a_file_is_read_into_plain_numbers():
    cluster = parse(GOOD)
    assert [node.name for node in cluster.nodes] == ["spark1", "spark2"]
    assert cluster.nodes[1].memory == round(119.7 * 2**30)
    assert cluster.nodes[1].devices[0].power_limit == 240.0
    assert cluster.nodes[0].engines["vllm"].environment == "/opt/vllm"
    assert cluster.links[0].latency == 2e-6
    assert (cluster.circuits[0].volts, cluster.circuits[0].amps) == (120.0, 15.0)


@pytest.mark.parametrize(
    "word", ["?0", "- a", "a: b", "#x", "null", "1", "0x1F", "12:30", "~", "*a", "{", "'", '"', " x "]
)
def test_words_that_mean_something_in_yaml_stay_words(word):
    cluster = Cluster(nodes=(Node(name="null", address=word, nics=(Nic(name=word, addresses=(word,)),)),))
    assert parse(dump(cluster)) == cluster


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(clusters())
def test_what_is_written_is_read_back_exactly(cluster):
    assert parse(dump(cluster)) == cluster


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(clusters())
def test_json_gives_the_same_cluster_and_plain_numbers(cluster):
    text = cluster.model_dump_json()
    assert Cluster.model_validate_json(text) == cluster
    assert '"schema":"corral.cluster/1"' in text


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("cores: 20", 'cores: "20"', 7, "a whole number is expected"),
        ("cores: 20", "cores: 0", 7, "greater than or equal to 1"),
        ("memory: 119.7 GiB\n", "memroy: 119.7 GiB\n", 6, 'unknown key "memroy" in nodes[0]; did you mean "memory"?'),
        ("{environment:", "{enviroment:", 10, 'did you mean "environment"?'),
        ("name: home", "nmae: home", 1, 'unknown key "nmae" in the file; did you mean "name"?'),
        ("120 V", "120", 19, "120 has no unit: text such as '120 V' is expected"),
        ("120 V", "120 W", 19, "'120 W' is no voltage: a number and one of V, kV is expected"),
        ("240 W", "240 Watt", 9, "'240 Watt' is no power"),
        ("memory: 119.7 GiB\n", "memory: 119.7\n", 6, "'128 GiB' is expected"),
        ("memory: 119.7 GiB\n", "memory: -1 GiB\n", 6, "'-1 GiB' is no size"),
        ("vendor: nvidia, ", "", 9, 'nodes[0].devices[0] lacks the key "vendor"'),
        ("name: spark2", "name: spark1", 12, '"spark1" is there twice'),
        ("name: spark2", "name: 2", 12, "2 is there, text is expected"),
        ("10.0.0.2", "10.0.0.1", 13, 'is also the address of "spark1"'),
        ("roce-200g", "rcoe-200g", 16, 'did you mean "roce-200g"?'),
        ("[spark1, spark2]", "[spark1, spark3]", 15, 'there is no node "spark3"; did you mean "spark2"?'),
        ("[spark1, spark2]", "[spark1, spark1]", 15, "different nodes"),
        ("[spark1, spark2]", "spark1", 15, "a list is expected"),
        ("nodes: [spark1]}", "nodes: [sprak1]}", 19, 'did you mean "spark1"?'),
        ("currency: EUR", "currency: euro", 20, "euro"),
        ("name: home", "name: home\nname: other", 2, 'the key "name" is there twice (first in line 1)'),
        ("name: home", "name: home\n\tnodes: x", 2, "a tab stands where YAML expects spaces"),
        ("name: home", "name: home\nx: {", 4, "this is not YAML"),
        ("name: home", "name: !!python/name:os.system x", 1, "has the type"),
        ("name: home", "name: .nan", 1, "no number"),
        ("name: home", "schema: corral.cluster/9\nname: home", 1, "corral.cluster/1"),
        ("address: 10.0.0.2", "address: local", 11, 'has no "fabric"'),
    ],
)
def test_a_mistake_is_named_with_its_line_and_what_was_expected(old, new, line, said):
    assert old in GOOD
    with pytest.raises(BadInput) as caught:
        parse(GOOD.replace(old, new, 1), "my.yaml")
    assert said in caught.value.cause
    assert f"my.yaml:{line}: " in caught.value.cause
    assert caught.value.remedy


def test_several_mistakes_are_told_at_once_and_each_once():
    text = GOOD.replace("cores: 20", "cores: many").replace("120 V", "120")
    with pytest.raises(BadInput) as caught:
        parse(text)
    assert [line.split(":")[1] for line in caught.value.cause.splitlines()] == ["7", "19"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("- a\n- b\n", "a mapping of keys"),
        ("just words\n", "a mapping of keys"),
        ("nodes: []\n", "at least 1 item"),
        ("name: x\n", 'lacks the key "nodes"'),
        ("---\nname: a\n---\nname: b\n", "not YAML"),
        ("name: \x00\n", "is not YAML"),
        ("a: &a [*a]\n", "beyond reason"),
        ("[" * 600, "nested too deeply"),
        ("? [a, b]\n: c\n", "a key is a list"),
        ("nodes: *nobody\n", "nobody"),
        ("<<: 5\n", "no mapping"),
        ("n: " + "9" * 5000, "no number"),
    ],
)
def test_what_is_no_cluster_file_is_refused_in_a_sentence(text, said):
    with pytest.raises(BadInput) as caught:
        parse(text)
    assert said in caught.value.cause
    assert len(caught.value.cause) < 500


def test_an_alias_bomb_is_refused_quickly():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    start = time.monotonic()
    with pytest.raises(BadInput, match="beyond reason"):
        parse("\n".join(levels))
    assert time.monotonic() - start < 5


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path):
    path = tmp_path / "huge.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 2**20)
    start = time.monotonic()
    with pytest.raises(BadInput, match="larger than"):
        load(path)
    assert time.monotonic() - start < 1


def test_files_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(BadInput, match="There is no cluster file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(BadInput, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "latin").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(BadInput, match="UTF-8"):
        load(tmp_path / "latin")


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("examples/*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_cluster_files(path):
    cluster = load(path)
    assert cluster.nodes
    assert parse(dump(cluster)) == cluster


def test_there_are_examples_and_the_page_names_every_key():
    assert len(list(Path(__file__).parents[2].glob("examples/*.yaml"))) >= 3
    page = (Path(__file__).parents[2] / "docs/cluster-file.md").read_text(encoding="utf-8")
    parts = (Cluster, Node, Ssh, Cpu, Device, Nic, Disk, EngineSetting, Link, Storage, Circuit, Price)
    parts += (ServedModel, Residency, EndpointSettings)
    keys = {field.alias or name for part in parts for name, field in part.model_fields.items()}
    assert {key for key in keys if f"`{key}`" not in page} == set()


@pytest.mark.parametrize(
    ("section", "line", "said"),
    [
        ("gateway: {prot: 1}", 2, 'unknown key "prot" in gateway; did you mean "port"?'),
        ("gateway:\n  host: 0.0.0.0\n  port: 99999", 4, "less than or equal to 65535"),
        ("gateway:\n  port: 8000\n  tls_cert: x.pem", 4, '"tls_key" is not there'),
        ("gateway: {patience: 30}", 2, "30 has no unit: text such as '2 us' is expected"),
        ("gateway: {body_limit: 1 B}", 2, "greater than or equal to 1024"),
        ("gateway: {key_required: sometimes}", 2, "'if-any', 'always' or 'never'"),
        ("gateway: {queue: 0}", 2, "greater than or equal to 1"),
        ("gateway: {access_log: yes please}", 2, "true or false is expected"),
        ("gateway: {host_names: [a b]}", 2, "gateway.host_names[0]"),
        ("gateway: 8000", 2, "a mapping"),
    ],
)
def test_a_mistake_in_how_it_is_served_is_named_with_its_line(section, line, said):
    with pytest.raises(BadInput) as caught:
        parse(f"name: x\n{section}\nnodes: [{{name: a}}]\n", "my.yaml")
    assert said in caught.value.cause
    assert f"my.yaml:{line}:" in caught.value.cause
    assert caught.value.remedy


def test_how_it_is_served_is_no_part_of_the_machines():
    text = "gateway: {port: 9000, patience: 30 s, body_limit: 8 MiB}\nnodes: [{name: a}]\n"
    cluster = parse(text)
    assert (cluster.gateway.port, cluster.gateway.patience, cluster.gateway.body_limit) == (9000, 30.0, 8 * 1024**2)
    assert cluster.machines().gateway.port is None
    assert "patience: 30 s" in dump(cluster)
