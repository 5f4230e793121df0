"""The parts of the seam that do no input and output: lines, destinations, what a shell is told."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.hosts import Connection, shell
from corral.hosts.lines import LineSplitter

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.lists(st.binary()), st.integers(1, 20))
def test_lines_are_the_same_however_the_bytes_come(chunks, longest):
    splitter = LineSplitter(longest)
    lines = [line for chunk in chunks for line in splitter.feed(chunk)] + list(splitter.finish())
    whole = b"".join(chunks)
    expected = []
    for line in whole.split(b"\n"):
        pieces = [line[at : at + longest] for at in range(0, len(line), longest)]
        expected += pieces or [b""]
    if not whole or whole.endswith(b"\n"):
        expected.pop()
    assert lines == expected


@given(st.lists(words, min_size=1), words)
def test_the_count_of_lines_is_right_whatever_the_words(argv, value):
    count, rest = shell.script(argv, {"NAME": value}).split(b"\n", 1)
    assert rest.count(b"\n") == int(count)
    assert rest.endswith(b"\n")


@pytest.mark.parametrize(
    "bad", [((), {}), (("a\0",), {}), (("a",), {"B": "\0"}), (("a",), {"1B": ""}), (("a",), {"": ""})]
)
def test_what_no_shell_can_take_is_refused(bad):
    with pytest.raises(ValueError, match=r"NUL|name"):
        shell.script(*bad)


@pytest.mark.parametrize("told", [b"", b"3\nexport A=1\n", b"1\nexec touch mark\n", b"1\nexec touch"])
def test_a_shell_that_is_not_told_to_go_starts_nothing(told, tmp_path):
    done = subprocess.run(["sh", "-c", shell.START], input=told, capture_output=True, cwd=tmp_path, check=False)
    assert done.returncode == 255
    assert shell.STARTED.search(done.stdout)
    assert os.listdir(tmp_path) == []


def test_the_command_strings_suit_any_login_shell():
    for text in (shell.START, shell.KEEP):
        assert text.count("'") == 2  # one quoted word: nothing for another shell to take apart
        assert "\n" not in text
        assert "!" not in text  # csh looks for its history even within quotes


def test_a_destination_is_written_as_ssh_takes_it():
    assert Connection("n", "10.0.0.2").target == "10.0.0.2"
    assert Connection("n", "10.0.0.2", user="ann", port=2222).target == "-p 2222 ann@10.0.0.2"
    assert Connection("n", "10.0.0.2", port=2222).entry == "[10.0.0.2]:2222"
    assert Connection("n", "10.0.0.2", port=22).entry == "10.0.0.2"


@pytest.mark.parametrize(
    ("jump", "hop"),
    [
        ("box", ("box", None, None, None)),
        ("ann@box:2222", ("box", "ann", 2222, None)),
        ("one, ann@two", ("two", "ann", None, "one")),
        ("[fd00::1]:22", ("fd00::1", None, 22, None)),
        ("fd00::1", ("fd00::1", None, None, None)),
        ("[fd00::1]:x", ("fd00::1", None, None, None)),
        ("box:x", ("box:x", None, None, None)),
    ],
)
def test_a_jump_host_is_read(jump, hop):
    found = Connection("n", "10.0.0.2", key="k", jump=jump).hop()
    assert (found.address, found.user, found.port, found.jump) == hop
    assert found.key == "k"
    assert Connection("n", "10.0.0.2").hop() is None


def test_a_cluster_of_one_machine_needs_no_ssh():
    look = "import sys, corral.hosts; corral.hosts.open_host('here'); print('asyncssh' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], capture_output=True, check=True).stdout == b"False\n"
