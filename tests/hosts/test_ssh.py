"""What only SSH has: keys, refusals, losses, jump hosts, limits of sessions."""

import asyncio
import contextlib
import os
import re
import shlex
import subprocess
from dataclasses import replace

import pytest

from corral.errors import NodeFailed
from corral.hosts import Connection, open_host
from corral.hosts.ssh import Ssh
from hosts.waiting import gone, until
from lab import sshd


@contextlib.asynccontextmanager
async def opened(connection):
    host = Ssh(connection)
    try:
        yield host
    finally:
        await host.close()


async def refusal(connection, node="node") -> NodeFailed:
    async with opened(connection) as host:
        with pytest.raises(NodeFailed) as failed:
            await host.run(["true"])
    assert failed.value.node == node
    assert failed.value.cause.endswith(".")
    assert failed.value.remedy
    return failed.value


def keygen(*arguments: object) -> None:
    subprocess.run(["ssh-keygen", "-q", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


# --- who it is


async def test_an_unknown_host_is_refused_and_nothing_is_written(own_server):
    own_server.start()
    file = own_server.folder / "known_hosts"
    file.write_text("", encoding="utf-8")
    error = await refusal(own_server.connection)
    assert re.search(r"is unknown: its host key ssh-ed25519 SHA256:\S+ is not in", error.cause)
    assert f"ssh-keyscan -p {own_server.port} 127.0.0.1 >> {file}" in error.remedy
    assert file.read_text(encoding="utf-8") == ""


async def test_a_changed_host_key_names_both_and_the_remedy_works(own_server):
    own_server.new_host_key()
    own_server.start()
    error = await refusal(own_server.connection)
    expected, shown = re.findall(r"SHA256:\S{43}", error.cause)
    assert expected != shown
    assert "has changed" in error.cause
    keygen(*shlex.split(re.search(r"`ssh-keygen (-R [^`]+)`", error.remedy)[1]))
    assert "is unknown" in (await refusal(own_server.connection)).cause


async def test_a_host_key_of_another_type_is_a_changed_one(own_server):
    keygen("-t", "ecdsa", "-N", "", "-f", own_server.folder / "ecdsa")
    (own_server.folder / "ecdsa").replace(own_server.folder / "host_key")
    (own_server.folder / "ecdsa.pub").replace(own_server.folder / "host_key.pub")
    own_server.start()
    error = await refusal(own_server.connection)
    assert "has changed: expected ssh-ed25519 SHA256:" in error.cause


async def test_a_key_that_the_server_does_not_know_is_refused(server, tmp_path):
    sshd.make_key(tmp_path / "other", "other")
    error = await refusal(replace(server.connection, key=str(tmp_path / "other")))
    assert f"refuses the key {tmp_path}/other for user" in error.cause
    assert "ssh-copy-id" in error.remedy


async def test_a_key_file_that_is_missing_encrypted_or_no_key(server, tmp_path):
    assert "does not exist" in (await refusal(replace(server.connection, key=str(tmp_path / "none")))).cause
    sshd.make_key(tmp_path / "locked", "locked")
    keygen("-p", "-N", "secret", "-f", tmp_path / "locked")
    assert "ssh-add" in (await refusal(replace(server.connection, key=str(tmp_path / "locked")))).remedy
    (tmp_path / "text").write_text("no key", encoding="utf-8")
    assert "cannot be used" in (await refusal(replace(server.connection, key=str(tmp_path / "text")))).cause


# --- where it is


async def test_a_port_where_nothing_listens(server, unused_tcp_port):
    error = await refusal(replace(server.connection, port=unused_tcp_port))
    assert "refuses connections on its SSH port" in error.cause


async def test_a_name_that_does_not_resolve(server):
    error = await refusal(replace(server.connection, address="no-such-host.invalid"))
    assert "cannot be resolved" in error.cause


async def test_something_else_than_an_ssh_server(server):
    async def talk(reader, writer):
        writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        error = await refusal(replace(server.connection, port=port))
    assert error.node == "node"


async def test_a_server_that_says_nothing(server, monkeypatch):
    monkeypatch.setattr("corral.hosts.connect.CONNECT_SECONDS", 0.5)
    writers = []
    async with await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0) as silent:
        error = await refusal(replace(server.connection, port=silent.sockets[0].getsockname()[1]))
        for writer in writers:
            writer.close()
    assert "did not answer within 0.5 s" in error.cause


async def test_the_user_s_own_configuration_is_read_but_cannot_switch_checking_off(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    folder = tmp_path / ".ssh"
    folder.mkdir()
    host = f"Host box\n HostName 127.0.0.1\n Port {server.port}\n IdentityFile {server.connection.key}\n"
    known = f" UserKnownHostsFile {server.connection.known_hosts}\n"
    (folder / "config").write_text(host + known, encoding="utf-8")
    box = Connection(name="box", address="box")
    async with opened(box) as reached:
        assert (await reached.run(["echo", "there"])).stdout == b"there\n"
    (folder / "config").write_text(host + " UserKnownHostsFile none\n StrictHostKeyChecking no\n", encoding="utf-8")
    assert "is unknown" in (await refusal(box, "box")).cause


# --- the connection


async def test_one_connection_serves_all_calls(own_server):
    own_server.start()
    async with opened(own_server.connection) as host:
        await asyncio.gather(*(host.run(["true"]) for _ in range(5)))
        await host.put(b"x", str(own_server.folder / "put"))
        async with host.forward(own_server.port):
            pass
        assert len(own_server.sessions()) == 1


async def test_callers_share_the_failure_of_one_attempt(server):
    attempts = 0

    async def hang_up(reader, writer):
        nonlocal attempts
        attempts += 1
        writer.close()

    other = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    to = replace(server.connection, port=other.sockets[0].getsockname()[1])
    async with other, opened(to) as host:
        failed = await asyncio.gather(*(host.run(["true"]) for _ in range(5)), return_exceptions=True)
    assert [type(error) for error in failed] == [NodeFailed] * 5
    assert attempts == 1


async def test_a_lost_connection_is_told_ends_the_command_there_and_is_made_again(own_server):
    own_server.start()
    async with opened(own_server.connection) as host:
        async with host.stream(["sh", "-c", "trap '' HUP PIPE; echo $$; while :; do sleep 0.1; done"]) as stream:
            lines = aiter(stream)
            pid = int(await anext(lines))
            running = asyncio.create_task(host.run(["sleep", "600"]))
            await asyncio.sleep(0.1)
            own_server.cut()
            with pytest.raises(NodeFailed, match="node was lost"):
                await anext(lines)
            with pytest.raises(NodeFailed, match="node was lost"):
                await running
        assert await gone(pid)
        assert (await host.run(["echo", "again"])).stdout == b"again\n"


async def test_a_transfer_that_is_cut_leaves_neither_half_nor_rest(own_server, tmp_path):
    own_server.start()
    os.mkfifo(tmp_path / "fifo")
    writer = os.open(tmp_path / "fifo", os.O_RDWR)
    os.write(writer, b"half")
    folder = tmp_path / "there"
    async with opened(own_server.connection) as host:
        task = asyncio.create_task(host.put(tmp_path / "fifo", str(folder / "file")))
        await until(lambda: folder.exists() and list(folder.iterdir()))
        own_server.cut()
        os.close(writer)
        with pytest.raises(NodeFailed):
            await task
        await until(lambda: not list(folder.iterdir()))


async def test_a_forward_goes_over_the_next_connection_after_a_loss(own_server):
    own_server.start()

    async def greet(reader, writer):
        writer.write(b"hello")
        writer.close()

    async def ask(here) -> bytes:
        reader, writer = await asyncio.open_connection(here.host, here.port)
        try:
            return await reader.read(-1)
        finally:
            writer.close()

    service = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = service.sockets[0].getsockname()[1]
    async with service, opened(own_server.connection) as host, host.forward(port) as here:
        assert await ask(here) == b"hello"
        own_server.cut()
        async with asyncio.timeout(10):
            answer = b""
            while not answer:  # what is asked before the loss is noticed fails, as over any network
                with contextlib.suppress(ConnectionError):
                    answer = await ask(here)
        assert answer == b"hello"


@pytest.mark.parametrize("sessions", [2, 3])
async def test_a_server_that_allows_few_sessions_gets_more_connections(own_server, sessions):
    own_server.start(MaxSessions=sessions)
    async with opened(own_server.connection) as host:
        done = await asyncio.gather(*(host.run(["sh", "-c", f"sleep 0.3; echo {n}"]) for n in range(4)))
        assert [int(one.stdout) for one in done] == [0, 1, 2, 3]


async def test_a_server_that_allows_one_session_is_told_apart(own_server):
    own_server.start(MaxSessions=1)
    error = await refusal(own_server.connection)
    assert "MaxSessions" in error.remedy


async def test_a_talkative_profile_does_no_harm(own_server):
    (own_server.folder / ".bashrc").write_text(
        "echo welcome; echo -n 'corral 12 no'; echo warn >&2\n", encoding="utf-8"
    )
    own_server.start()
    async with opened(own_server.connection) as host:
        assert (await host.run(["echo", "clean"])).stdout == b"clean\n"


async def test_a_login_without_a_shell_is_told(own_server):
    own_server.start(ForceCommand="echo This account is not available")
    error = await refusal(own_server.connection)
    assert "no POSIX shell (it said: 'This account is not available')" in error.cause


# --- through another


async def test_a_jump_host_leads_there(server, own_server):
    own_server.start()
    user = own_server.connection.user
    hosts = (own_server.folder / "known_hosts").read_text(encoding="utf-8")
    both = own_server.folder / "both"
    both.write_text(hosts + (server.folder / "known_hosts").read_text(encoding="utf-8"), encoding="utf-8")
    authorized = own_server.folder / "key.pub"
    authorized.write_text((server.folder / "key.pub").read_text(encoding="utf-8"), encoding="utf-8")
    through = replace(server.connection, known_hosts=str(both), jump=f"{user}@127.0.0.1:{own_server.port}")
    async with opened(through) as host:
        assert (await host.run(["echo", "there"])).stdout == b"there\n"
        assert own_server.sessions()
    error = await refusal(replace(through, port=1))
    assert "cannot be reached from its jump host" in error.cause
    own_server.stop()
    error = await refusal(through, "the jump host 127.0.0.1 of node")
    assert "refuses connections" in error.cause


async def test_open_host_chooses_the_way(server):
    assert open_host("here").is_local
    host = open_host("node", server.connection)
    assert not host.is_local
    assert (await host.run(["true"])).status == 0
    await host.close()
