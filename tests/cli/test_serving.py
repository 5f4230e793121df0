"""From a cluster file and options to what the endpoint is told; options count for more."""

import pytest

from corral.cli.serving import curl, notes, options, said
from corral.cluster.endpoint import EndpointSettings
from corral.errors import BadInput
from corral.launcher.daemon import HeadAddress
from gateway.certificates import Authority


@pytest.fixture
def file(tmp_path):
    folder = tmp_path / "cluster"
    folder.mkdir()
    Authority().pair(folder)
    path = folder / "cluster.yaml"
    path.write_text(
        "gateway: {host: 10.0.0.1, port: 9000, tls_cert: server.crt, tls_key: server.key, queue: 7}\n"
        "nodes: [{name: a}]\n"
    )
    return path


def test_options_count_for_more_than_the_file(file):
    told = said(str(file), options(None, 1234, "", ""))
    assert (told.host, told.port, told.queue) == ("10.0.0.1", 1234, 7)


def test_paths_in_a_file_count_from_its_folder_and_options_from_here(file, monkeypatch):
    told = said(str(file), EndpointSettings())
    assert told.tls_cert == str(file.parent / "server.crt")
    Authority().pair(file.parent, prefix="mine")
    monkeypatch.chdir(file.parent)
    told = said(str(file), options(None, None, "mine.crt", "mine.key"))
    assert told.tls_key == str(file.parent / "mine.key")


def test_without_a_file_only_the_options_count():
    assert said(None, options("127.0.0.1", None, "", "")) == EndpointSettings(host="127.0.0.1")


def test_a_certificate_that_cannot_serve_is_refused(file):
    (file.parent / "server.key").unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        said(str(file), EndpointSettings())
    with pytest.raises(BadInput, match="its key"):
        options(None, None, "x", "")


def test_what_is_said_of_an_endpoint():
    outside = HeadAddress(pid=1, host="0.0.0.0", port=8000)
    assert "nobody is asked" in notes(outside, keyed=False)[0]
    assert "in the clear" in notes(outside, keyed=True)[0]
    assert notes(outside.model_copy(update={"tls": True}), keyed=True) == []
    assert notes(HeadAddress(pid=1, host="127.0.0.1", port=8000), keyed=False) == []
    assert "Bearer $CORRAL_KEY" in curl(outside, "{}", keyed=True)
    assert "Bearer" not in curl(outside, "{}", keyed=False)
