from corral.launcher.ranklog import TAIL_LINES, RankLogs


def test_a_log_is_copied_and_its_last_lines_are_kept(tmp_path):
    logs = RankLogs(tmp_path / "logs")
    logs.write("server", "a", "one\ntwo\nthr", 11)
    logs.write("server", "a", "ee\n10 %\r20 %\r", 25)
    assert logs.tail("server") == ("one", "two", "three", "10 %", "20 %")
    assert logs.offsets("a") == {"server": 25}
    assert (tmp_path / "logs" / "server.log").read_bytes() == b"one\ntwo\nthree\n10 %\r20 %\r"
    assert logs.shows("server", "^t.o$")


def test_only_the_last_lines_are_held(tmp_path):
    logs = RankLogs(tmp_path)
    logs.write("server", "a", "line\n" * (3 * TAIL_LINES), 1)
    assert len(logs.tail("server")) == TAIL_LINES


def test_a_disk_that_takes_no_more_costs_the_copy_and_not_the_tail(tmp_path):
    logs = RankLogs(tmp_path)
    (tmp_path / "server.log").symlink_to("/dev/full")
    logs.write("server", "a", "out of memory\n", 14)
    assert logs.tail("server") == ("out of memory",)


def test_a_new_launch_begins_a_new_copy(tmp_path):
    RankLogs(tmp_path).write("server", "a", "old\n", 4)
    RankLogs(tmp_path).write("server", "a", "new\n", 4)
    assert (tmp_path / "server.log").read_text() == "new\n"
