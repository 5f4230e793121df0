from corral.cli.logs import _news, _tail


def test_a_line_that_is_still_being_written_waits_for_its_end(tmp_path, capsys):
    log = tmp_path / "server.log"
    log.write_bytes("one\ntw\N{LATIN SMALL LETTER O WITH DIAERESIS}".encode()[:-1])
    offset = _news(log, 0, prefix=False)
    with log.open("ab") as file:
        file.write("\N{LATIN SMALL LETTER O WITH DIAERESIS}\n".encode()[1:])
    _news(log, offset, prefix=True)
    assert capsys.readouterr().out == "one\nserver     | twö\n"


def test_the_last_lines_are_shown_whole_and_the_next_look_goes_on_behind_them(tmp_path, capsys):
    log = tmp_path / "server.log"
    log.write_text("one\ntwo\nthree\n")
    offset = _tail(log, 2, prefix=False)
    with log.open("a") as file:
        file.write("four\n")
    _news(log, offset, prefix=False)
    assert capsys.readouterr().out == "two\nthree\nfour\n"
