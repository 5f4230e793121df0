"""What every real host does alike: this machine, and one over SSH."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from corral.errors import NodeFailed
from corral.hosts import run_script, stream_script
from hosts.waiting import appeared, gone, until

HORRORS = [
    "", " ", "a b", "'", '"', "\\", "$HOME", "`id`", "$(id)", "!!", "*", "~", "-n", "--", "a\nb", "\n", "tab\there",
    "ünï漢字🐎", ";exit 3", "&& false", "#no", "a'b\"c\\d$e`f", "%s%n", "\x01\x7f\x1b[31m", "\udc80\udcff",
    "x" * 50_000,
]  # fmt: skip
SHOW = "import sys,os; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"


# --- run


async def test_a_command_gives_its_output_and_its_status(host):
    done = await host.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.stdout, done.stderr, done.status) == (b"out\n", b"err\n", 3)
    assert done.argv == ("sh", "-c", "echo out; echo err >&2; exit 3")


async def test_a_missing_program_is_127(host):
    done = await host.run(["no-such-program-here"])
    assert done.status == 127
    assert b"no-such-program-here" in done.stderr


async def test_a_file_that_is_no_program_is_126(host, tmp_path):
    (tmp_path / "plain").touch(mode=0o600)
    assert (await host.run([str(tmp_path / "plain")])).status == 126


async def test_a_signal_is_a_negative_status(host):
    assert (await host.run(["sh", "-c", "kill -9 $$"])).status == -9


async def test_a_status_above_128_is_no_signal(host):
    assert (await host.run(["sh", "-c", "exit 137"])).status == 137


async def test_commands_start_in_the_home_folder(host):
    assert (await host.run(["pwd"])).stdout.decode().strip() == str(Path.home())


async def test_words_arrive_as_they_were_given(host):
    done = await host.run(["python3", "-c", SHOW, *HORRORS])
    assert done.stdout.split(b"\0") == [os.fsencode(word) for word in HORRORS]


async def test_every_byte_but_nul_arrives_in_a_word(host):
    word = os.fsdecode(bytes(range(1, 256)))
    assert (await host.run(["python3", "-c", SHOW, word])).stdout == bytes(range(1, 256))


async def test_environment_arrives_as_it_was_given(host):
    env = {f"HORROR_{number}": word for number, word in enumerate(HORRORS)}
    show = "import os,sys; sys.stdout.buffer.write(b'\\0'.join(os.environb[n.encode()] for n in sys.argv[1:]))"
    done = await host.run(["python3", "-c", show, *env], env=env)
    assert done.stdout.split(b"\0") == [os.fsencode(word) for word in HORRORS]


async def test_no_process_shows_the_environment_in_its_arguments(host):
    secret = "s3cret-" + os.urandom(6).hex()
    done = await host.run(["sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null; echo $TOKEN >&2"], env={"TOKEN": secret})
    assert done.stderr.decode().strip() == secret
    assert secret.encode() not in done.stdout
    assert b"cat" in done.stdout


async def test_input_arrives_whole_and_binary_and_output_comes_back_so(host):
    data = bytes(range(256)) * 40_960  # 10 MiB
    assert (await host.run(["cat"], input=data)).stdout == data


async def test_input_that_is_not_read_is_no_error(host):
    assert (await host.run(["true"], input=bytes(3_000_000))).status == 0


async def test_ten_megabytes_on_both_outputs(host):
    done = await host.run(["sh", "-c", "head -c 10000000 /dev/zero & head -c 10000000 /dev/zero >&2; wait"])
    assert (len(done.stdout), len(done.stderr)) == (10_000_000, 10_000_000)


async def test_a_command_at_its_timeout_is_ended_with_its_children(host, tmp_path):
    script = f"sleep 600 & echo $! $$ > {tmp_path}/pids; wait"
    with pytest.raises(NodeFailed, match=r"did not finish `sh -c .*within 0\.7 s") as failed:
        await host.run(["sh", "-c", script], timeout=0.7)
    assert failed.value.node == host.name
    for pid in (tmp_path / "pids").read_text(encoding="utf-8").split():
        assert await gone(int(pid))


async def test_a_command_that_ignores_the_request_to_end_is_ended(host, tmp_path):
    script = f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.1; done"
    with pytest.raises(NodeFailed):
        await host.run(["sh", "-c", script], timeout=0.5)
    assert await gone(int((tmp_path / "pid").read_text(encoding="utf-8")))


async def test_a_cancelled_command_is_ended(host, tmp_path):
    task = asyncio.create_task(host.run(["sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 600"]))
    pid = int(await appeared(tmp_path / "pid"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await gone(pid)


async def test_a_process_that_a_finished_command_left_behind_goes_on(host, tmp_path):
    await host.run(["sh", "-c", f"sleep 600 >/dev/null 2>&1 </dev/null & echo $! > {tmp_path}/pid"])
    pid = int((tmp_path / "pid").read_text(encoding="utf-8"))
    await host.close()
    assert not await gone(pid, 0.3)
    os.kill(pid, 9)


async def test_twenty_commands_at_once(host):
    done = await asyncio.gather(*(host.run(["sh", "-c", f"sleep 0.2; echo {number}"]) for number in range(20)))
    assert [int(one.stdout) for one in done] == list(range(20))


async def test_closing_ends_what_runs(host, tmp_path):
    task = asyncio.create_task(host.run(["sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 600"]))
    pid = int(await appeared(tmp_path / "pid"))
    await host.close()
    assert await gone(pid)
    with contextlib.suppress(NodeFailed):
        assert (await task).status < 0


# --- stream


async def test_lines_come_while_the_command_runs(host):
    async with host.stream(["sh", "-c", "echo one; read x; echo $x; exit 4"]) as stream:
        lines = aiter(stream)
        assert await anext(lines) == b"one"
        await stream.write(b"two\n")
        assert [line async for line in stream] == [b"two"]
        done = await stream.wait()
    assert (done.status, done.stdout) == (4, b"")


async def test_first_input_is_written_and_the_rest_follows(host):
    async with host.stream(["head", "-c", "6"], input=b"abc") as stream:
        await stream.write(b"def")
        assert [line async for line in stream] == [b"abcdef"]


async def test_leaving_a_stream_ends_the_command(host):
    async with host.stream(["sh", "-c", "echo $$; exec yes"]) as stream:
        pid = int(await anext(aiter(stream)))
    assert await gone(pid)


async def test_an_endless_output_waits_for_its_reader(host):
    async with host.stream(["sh", "-c", "echo $$; exec yes"]) as stream:
        pid = int(await anext(aiter(stream)))

        def written() -> int:
            return int(Path(f"/proc/{pid}/io").read_text(encoding="utf-8").split("wchar: ")[1].split()[0])

        before, now = -1, written()
        async with asyncio.timeout(10):
            while now != before:
                await asyncio.sleep(0.2)
                before, now = now, written()
        assert now < 20_000_000


async def test_a_line_without_end_comes_in_pieces(host):
    async with host.stream(["head", "-c", "3000000", "/dev/zero"]) as stream:
        assert [len(line) async for line in stream] == [1 << 20, 1 << 20, 3_000_000 - (2 << 20)]


async def test_a_stream_keeps_the_end_of_the_errors(host):
    async with host.stream(["sh", "-c", "head -c 200000 /dev/zero >&2; echo last >&2"]) as stream:
        done = await stream.wait()
    assert len(done.stderr) == 65536
    assert done.stderr.endswith(b"last\n")


# --- put and get


async def test_a_file_goes_there_and_comes_back(host, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "source").write_bytes(data)
    target = tmp_path / "new folder" / "it's" / "file"
    await host.put(tmp_path / "source", str(target), mode=0o640)
    assert target.read_bytes() == data
    assert target.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    await host.get(str(target), tmp_path / "back" / "file")
    assert (tmp_path / "back" / "file").read_bytes() == data


async def test_an_empty_file_and_one_that_replaces_another(host, tmp_path):
    for data in (b"old", b"", b"new"):
        told = []
        await host.put(data, str(tmp_path / "file"), on_bytes=told.append)
        assert told == sorted(told)
        assert told[-1:] == ([len(data)] if data else [])
        assert (tmp_path / "file").read_bytes() == data


async def test_a_file_that_cannot_be_written_names_node_and_reason(host, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(NodeFailed, match=r"could not write .*taken is a folder"):
        await host.put(b"data", str(tmp_path / "taken"))
    with pytest.raises(NodeFailed, match=f"^{host.name} could not write /proc/nowhere/file"):
        await host.put(b"data", "/proc/nowhere/file")
    assert list((tmp_path / "taken").iterdir()) == []


async def test_a_file_that_is_not_there_leaves_no_file_here(host, tmp_path):
    with pytest.raises(NodeFailed, match=r"could not read .*missing.*No such file"):
        await host.get(str(tmp_path / "missing"), tmp_path / "here" / "file")
    assert list((tmp_path / "here").iterdir()) == []


async def test_a_cancelled_put_leaves_the_old_file_and_no_other(host, tmp_path):
    (tmp_path / "file").write_text("old", encoding="utf-8")
    os.mkfifo(tmp_path / "fifo")
    writer = os.open(tmp_path / "fifo", os.O_RDWR)
    os.write(writer, b"half")
    task = asyncio.create_task(host.put(tmp_path / "fifo", str(tmp_path / "file")))
    await until(lambda: list(tmp_path.glob("file.*.part")))
    task.cancel()
    os.close(writer)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "sshd") == ["fifo", "file"]


# --- forward


async def test_a_port_of_the_machine_is_reached_here(host):
    data = os.urandom(20_000_000)

    async def mirror(reader, writer):
        while chunk := await reader.read(1 << 18):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(mirror, "127.0.0.1", 0)
    async with server, host.forward(server.sockets[0].getsockname()[1]) as here:
        reader, writer = await asyncio.open_connection(here.host, here.port)

        async def send():
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        assert await reader.read(-1) == data
        await sending
        writer.close()
        await writer.wait_closed()


async def ask(here) -> bytes:
    reader, writer = await asyncio.open_connection(here.host, here.port)
    try:
        return await reader.read(-1)
    finally:
        writer.close()


async def test_a_port_where_nothing_listens_is_refused_or_reset(host):
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    async with host.forward(port) as here:
        with pytest.raises(ConnectionError):
            await ask(here)


# --- scripts


async def test_a_script_runs_with_its_arguments_and_input(host):
    source = "import sys\nprint(sys.argv, __name__)\nprint(sys.stdin.read())\n"
    done = await run_script(host, source, name="probe", args=("a b", "'"), input=b"the rest")
    assert done.stdout.decode() == "['probe', 'a b', \"'\"] __main__\nthe rest\n"
    assert done.status == 0


async def test_a_script_hands_its_input_on_to_a_child(host):
    done = await run_script(host, "import subprocess; subprocess.run(['cat'])", input=b"x" * 100_000)
    assert done.stdout == b"x" * 100_000


async def test_a_script_that_fails_says_where(host):
    done = await run_script(host, "import sys\n\nraise SystemError('here')", name="probe")
    assert done.status == 1
    assert b'File "probe", line 3' in done.stderr


async def test_a_machine_without_python_is_told(host):
    with pytest.raises(NodeFailed, match="has no python9") as failed:
        await run_script(host, "pass", python="python9")
    assert "python3" in failed.value.remedy
    with pytest.raises(NodeFailed, match="has no python9"):
        async with stream_script(host, "pass", python="python9") as stream:
            assert [line async for line in stream] == []


async def test_a_script_is_streamed_and_spoken_to(host):
    source = "for line in __import__('sys').stdin: print(line.upper(), end='', flush=True)"
    async with stream_script(host, source, input=b"one\n") as stream:
        lines = aiter(stream)
        assert await anext(lines) == b"ONE"
        await stream.write(b"two\n")
        assert await anext(lines) == b"TWO"
