import sys

import pytest

from corral.cli.main import run


@pytest.fixture
def corral(monkeypatch, capsys):
    """The program: words in; exit status, standard output and standard error out."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["corral", *map(str, words)])
        monkeypatch.setenv("COLUMNS", "100")
        with pytest.raises(SystemExit) as ended:
            run()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return call
