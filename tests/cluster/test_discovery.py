"""Discovery: all machines at once, dead ones by name, the file written and kept; over real SSH in the lab."""

import json
import time
from pathlib import Path

import pytest

from corral.cli.discover import Way, nodes_to_ask, parse_host, run_discover
from corral.cluster.file import load
from corral.cluster.values import Cluster, Node, Ssh
from corral.errors import BadInput, NodeFailed
from corral.hosts.fake import Fake, Reply
from corral.launcher.discovery import PATIENT_SECONDS, Asked, discover


def said(hostname, **parts):
    facts = {"schema": "corral.facts/1", "system": {"hostname": hostname, "architecture": "x86_64"}} | parts
    return json.dumps({"cpu": {"model": "m", "cores": 4}, "memory": {"total": 2**33}} | facts).encode() + b"\n"


def asked(name, reply, **options):
    host = Fake(name)
    host.on("python3", reply=reply)
    return Asked(Node(name=name, address=name), host, **options)


async def test_every_machine_is_asked_at_once_and_the_dead_are_named():
    dead = asked("dead", Reply())
    dead.host.dead = True
    slow = [asked(f"slow{n}", Reply(said("x"), delay=0.5)) for n in range(4)]
    start = time.monotonic()
    found = await discover([dead, *slow, asked("garbage", Reply(b"welcome!\n", status=1))])
    assert time.monotonic() - start < 1.5
    assert [node.name for node in found.cluster.nodes] == ["slow0", "slow1", "slow2", "slow3"]
    assert set(found.failures) == {"dead", "garbage"}
    assert "welcome!" in found.failures["garbage"].cause


async def test_a_greeting_before_the_answer_and_two_machines_of_one_name():
    greeted = [asked(name, Reply(b"Welcome to Ubuntu\n{}\n" + said("box.lan")), named=False) for name in ("a", "b")]
    found = await discover(greeted)
    assert [(node.name, node.address) for node in found.cluster.nodes] == [("box", "a"), ("box-2", "b")]


async def test_a_slow_tool_is_given_more_time_once():
    hung = said("a", nvidia={"not_seen": "nvidia-smi took longer than 2.5 s", "command": "nvidia-smi"})
    answers = [hung, said("a", nvidia=[{"name": "V100", "memory": 2**35}])]
    one = asked("a", lambda _call: Reply(answers.pop(0)))
    found = await discover([one])
    assert found.cluster.nodes[0].devices[0].name == "V100"
    assert found.not_seen == {}
    assert str(PATIENT_SECONDS) in one.host.calls[1].argv


async def test_what_cannot_be_is_a_failure_of_that_machine_alone():
    strange = said("a", cpu={"model": "m", "cores": 0})
    found = await discover([asked("a", Reply(strange)), asked("b", Reply(said("b")))])
    assert [node.name for node in found.cluster.nodes] == ["b"]
    assert "cores" in found.failures["a"].cause


async def test_this_machine_without_an_address_makes_no_cluster_with_others():
    me = Asked(Node(name="me", address="local"), asked("me", Reply(said("me"))).host)
    with pytest.raises(BadInput, match='has no "fabric"'):
        await discover([me, asked("b", Reply(said("b")))])


async def test_no_python_is_said():
    found = await discover([Asked(Node(name="bare", address="bare"), Fake("bare"))])
    assert found.cluster is None
    assert "has no python3" in found.failures["bare"].cause


@pytest.mark.parametrize(
    ("text", "address", "user", "port"),
    [
        ("10.0.0.1", "10.0.0.1", None, None),
        ("ann@spark1:2222", "spark1", "ann", 2222),
        ("ann@[fd00::1]:22", "fd00::1", "ann", 22),
        ("fd00::1", "fd00::1", None, None),
    ],
)
def test_hosts_on_the_command_line(text, address, user, port):
    node = parse_host(text, Way())
    assert (node.address, node.ssh and node.ssh.user, node.ssh and node.ssh.port) == (address, user, port)
    assert parse_host(text, Way(user="bob", jump="gate")).ssh.user == (user or "bob")


@pytest.mark.parametrize("text", ["", "ann@", "h:port", "h:0", "h:70000", ":22"])
def test_what_names_no_machine(text):
    with pytest.raises(BadInput, match="names no machine"):
        parse_host(text, Way())


def test_the_files_nodes_are_asked_again_and_each_once():
    known = Cluster(nodes=(Node(name="a", address="h1", ssh=Ssh(user="ann")), Node(name="b", address="h2")))
    nodes = nodes_to_ask(["bob@h1", "h3"], Way(), known)
    assert [(node.name, named) for node, named in nodes] == [("a", True), ("b", True), ("h3", False)]
    assert [(node.address, named) for node, named in nodes_to_ask([], Way(), None)] == [("local", False)]


def test_this_machine_is_written_shown_and_merged(tmp_path: Path, capsys):
    path = tmp_path / "cluster.yaml"
    run_discover([], Way(), output=str(path))
    cluster = load(path)
    assert cluster.nodes[0].is_local
    assert cluster.nodes[0].cpu.cores >= 1
    assert "Written to" in capsys.readouterr().out
    path.write_text(path.read_text().replace("name: corral\n", "name: mine  # my own\n"))
    path.chmod(0o600)
    run_discover([], Way(), output=str(path))
    assert "name: mine  # my own" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["cluster.yaml"]


def test_json_is_one_document_and_writes_no_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run_discover([], Way(), as_json=True)
    assert Cluster.model_validate_json(capsys.readouterr().out).nodes[0].is_local
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_merged_is_left_alone(tmp_path):
    path = tmp_path / "notes.yaml"
    path.write_text("shopping: [milk]\n")
    with pytest.raises(BadInput, match=r"notes\.yaml:1"):
        run_discover([], Way(), output=str(path))
    assert path.read_text() == "shopping: [milk]\n"


def undisked(cluster):
    """The cluster without what is free on its disks, which others change meanwhile."""
    return cluster.model_copy(update={"nodes": tuple(n.model_copy(update={"disks": ()}) for n in cluster.nodes)})


@pytest.mark.lab
@pytest.mark.slow
def test_two_machines_over_ssh(lab, tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text(lab.cluster_yaml())
    before = [host.snapshot() for host in lab.hosts]
    run_discover([], Way(), output=str(path))
    cluster = load(path)
    assert [node.name for node in cluster.nodes] == ["h1", "h2"]
    assert all(node.cpu.cores >= 1 and node.memory > 2**30 and node.nics for node in cluster.nodes)
    assert [host.snapshot() - earlier for host, earlier in zip(lab.hosts, before, strict=True)] == [
        earlier - earlier for earlier in before
    ]
    lab["h2"].power_off()
    try:
        with pytest.raises(NodeFailed) as caught:
            run_discover([], Way(), output=str(path))
    finally:
        lab["h2"].power_on()
    assert caught.value.node == "h2"
    assert undisked(load(path)) == undisked(cluster)
