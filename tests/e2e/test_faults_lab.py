"""What goes wrong on the way to other machines, and with them: named, ended cleanly, and nothing is left."""

import signal
import subprocess
from pathlib import Path

import pytest

from e2e.program import base_url
from e2e.test_up_lab import SMALL, say

pytestmark = [pytest.mark.slow, pytest.mark.lab]
PLAIN = ("up", "demo", "--layout", "pp2", *SMALL)
VLLM = ("up", "demo", "--layout", "pp2", "--engine", "vllm", *SMALL)


@pytest.fixture(scope="module")
def machines(make_lab):
    return make_lab(2)


@pytest.fixture
def cluster(machines, tmp_path):
    path = tmp_path / "lab.yaml"
    path.write_text(machines.cluster_yaml())
    return path


@pytest.fixture
def clean(machines):
    """Nothing is left on the machines that was not there before."""
    before = {host.name: host.snapshot() for host in machines.hosts}
    yield
    for host in machines.hosts:
        left = host.snapshot() - before[host.name]
        assert not left.processes
        assert not left.ports
        assert [path for path in left.files if "/.cache/corral/" not in path] == []


def has_ray(host):
    return any(process.argv[0].endswith("raylet") for process in host.processes())


def rewrite(cluster, old, new):
    text = cluster.read_text()
    assert old in text
    cluster.write_text(text.replace(old, new))


def test_a_changed_host_key_is_named_with_both_fingerprints(corral, machines, cluster, clean, tmp_path):
    lines = machines.known_hosts.read_text().splitlines()
    mine = {host.address: next(line for line in lines if host.address in line.split()[0]) for host in machines.hosts}
    first, second = (mine[host.address] for host in machines.hosts)
    changed = tmp_path / "known_hosts"
    changed.write_text(f"{first}\n{second.split()[0]} {' '.join(first.split()[1:])}\n")
    rewrite(cluster, str(machines.known_hosts), str(changed))
    told = corral(*PLAIN, "--cluster", cluster, status=3)
    assert "The host key of h2" in told.stderr
    assert "has changed" in told.stderr
    assert "ssh-keygen -R" in told.stderr


def test_an_unknown_host_key_is_never_taken_on_trust(corral, machines, cluster, clean, tmp_path):
    empty = tmp_path / "known_hosts"
    empty.write_text("")
    rewrite(cluster, str(machines.known_hosts), str(empty))
    told = corral(*PLAIN, "--cluster", cluster, status=3)
    assert "is unknown" in told.stderr
    assert empty.read_text() == ""


def test_a_wrong_key_is_named(corral, machines, cluster, clean, tmp_path):
    key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    rewrite(cluster, f"key: {machines.key},", f"key: {key},")
    told = corral(*PLAIN, "--cluster", cluster, status=3)
    assert "refuses the key" in told.stderr


def test_a_machine_without_python_is_named(corral, cluster, clean):
    rewrite(cluster, "  - name: h2\n", "  - name: h2\n    python: /no/such/python\n")
    told = corral(*PLAIN, "--cluster", cluster, status=3)
    assert "h2 has no /no/such/python" in told.stderr


def test_an_address_that_the_machine_does_not_have_is_named(corral, machines, cluster, clean):
    rewrite(cluster, f"fabric: {machines['h2'].fabric}", "fabric: 10.78.250.250")
    told = corral(*PLAIN, "--cluster", cluster, status=2)
    assert "No network interface of h2 carries 10.78.250.250" in told.stderr


def test_a_model_that_only_this_machine_has_is_copied(corral, machines, cluster, clean, tmp_path):
    model = tmp_path / "mine.gguf"
    program = Path(corral.program).with_name("python")
    subprocess.run([program, "-m", "corral.models.demo", "--format", "gguf", str(model)], check=True)
    told = corral("up", model, "--cluster", cluster, "--layout", "pp2", *SMALL)
    assert "copied" in told.stderr
    assert say(base_url(told), "mine")[0].startswith("This is the Corral demo model")
    corral("down")


def test_ctrl_c_while_ranks_start_on_two_machines(corral, machines, cluster, clean):
    process = corral.popen(*[word for word in VLLM if word != "--detach"], "--cluster", cluster)
    corral.wait_for(lambda: all(has_ray(host) for host in machines.hosts), "Ray on both machines")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=90)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    corral.wait_for(corral.head_ended, "the end of the head")


def test_a_cut_that_heals_ends_nothing(corral, machines, cluster, clean):
    told = corral(*PLAIN, "--cluster", cluster)
    for host in machines.hosts:
        host.link_down("management")
    for host in machines.hosts:
        host.link_up("management")
    assert say(base_url(told), "corral-demo")[0].startswith("This is the Corral demo model")
    assert corral.deployment("corral-demo")["state"] == "ready"
    corral("down")


def test_a_machine_that_vanishes_during_the_launch_is_named(corral, make_lab, tmp_path):
    machines = make_lab(2)
    cluster = tmp_path / "lab.yaml"
    cluster.write_text(machines.cluster_yaml())
    process = corral.popen(*VLLM, "--cluster", cluster)
    corral.wait_for(lambda: has_ray(machines["h2"]), "Ray on h2")
    machines["h2"].power_off()
    _, said = process.communicate(timeout=150)
    assert process.returncode == 3, said
    assert "h2" in said
    assert not machines["h1"].processes()


def test_an_end_that_a_dead_machine_prevented_is_made_up_for(corral, make_lab, tmp_path):
    machines = make_lab(2)
    cluster = tmp_path / "lab.yaml"
    cluster.write_text(machines.cluster_yaml())
    corral(*PLAIN, "--cluster", cluster)
    machines["h2"].power_off()
    told = corral("down", status=3, timeout=120)
    assert "h2" in told.stderr
    assert not machines["h1"].processes()
    machines["h2"].power_on()
    corral("down", timeout=120)
    assert corral.deployment("corral-demo") is None, "status no longer speaks of it"
