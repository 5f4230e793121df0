"""https with a given certificate: judged before it serves, renewed without a restart, and plain HTTP ends cleanly."""

import asyncio
import logging
import ssl

import aiohttp
import pytest

from corral.errors import BadInput
from corral.gateway.keyring import Keyring
from corral.gateway.server import Gateway
from corral.gateway.table import Ready, replica_at
from corral.gateway.wire.sockets import is_reached
from corral.gateway.wire.tls import Renewal, context, judge
from gateway.certificates import NOW, Authority
from gateway.conftest import eventually
from gateway.fake_engine import streams_for_ever

CHAT = "/v1/chat/completions"
AT = NOW.timestamp()


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def pair(authority, tmp_path):
    return authority.pair(tmp_path)


@pytest.fixture
def trust(authority):
    return ssl.create_default_context(cadata=authority.root.decode())


@pytest.fixture
def live(pair):
    return context(pair)


@pytest.fixture
async def gateway(engine, live):
    gateway = Gateway(ssl=live)
    gateway.table.set("m", Ready(replica_at(engine.url, "m")))
    await gateway.start(port=0)
    yield gateway
    await gateway.stop(grace=0)


async def connected(gateway, trust):
    return await asyncio.open_connection("127.0.0.1", gateway.port, ssl=trust, server_hostname="localhost")


def serial(writer):
    return writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]


async def asked(reader, writer):
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return await asyncio.wait_for(reader.readline(), 5)


async def test_it_answers_over_https(gateway, trust):
    async with aiohttp.ClientSession(f"https://localhost:{gateway.port}") as http:
        async with http.post(CHAT, data=b'{"model": "m"}', ssl=trust) as response:
            assert response.status == 200
            assert (await response.json())["path"] == CHAT
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await http.get("/healthz")  # as anybody would who does not know the root


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_tls_is_refused(gateway, trust):
    trust.minimum_version = trust.maximum_version = ssl.TLSVersion.TLSv1_1
    trust.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await connected(gateway, trust)


async def test_a_client_that_leaves_a_stream_is_seen_through_tls(gateway, engine, trust):
    engine.script = streams_for_ever
    reader, writer = await connected(gateway, trust)
    writer.write(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 14\r\n\r\n" % CHAT.encode())
    writer.write(b'{"model": "m"}')
    await asyncio.wait_for(reader.readuntil(b"data:"), 5)
    writer.transport.abort()
    await eventually(lambda: engine.connections == 0)


async def test_plain_http_ends_cleanly_and_the_next_client_is_served(gateway, trust, caplog):
    for sent in (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x00" * 100, b"", b"\x16\x03\x01\x00\x01\x00"):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(sent)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 5)
        assert not answer.startswith(b"HTTP/1.1 200")
        writer.close()
    reader, writer = await connected(gateway, trust)
    assert await asked(reader, writer) == b"HTTP/1.1 200 OK\r\n"
    writer.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_renewed_certificate_is_used_and_open_connections_go_on(
    gateway, authority, pair, live, trust, tmp_path
):
    renewal = Renewal(pair, live)
    assert not renewal.look()
    old = await connected(gateway, trust)
    authority.pair(tmp_path)
    assert renewal.look()
    assert not renewal.look()
    new = await connected(gateway, trust)
    assert serial(old[1]) != serial(new[1])
    for reader, writer in (old, new):
        assert await asked(reader, writer) == b"HTTP/1.1 200 OK\r\n"
        writer.close()


async def test_a_half_renewed_pair_is_left_alone_until_its_other_half_comes(
    gateway, authority, pair, live, trust, tmp_path, capsys
):
    renewal = Renewal(pair, live)
    before = await connected(gateway, trust)
    other = authority.pair(tmp_path, prefix="other")
    pair.cert.write_bytes(other.cert.read_bytes())
    assert not renewal.look()
    assert "is not that of the certificate" in capsys.readouterr().err
    between = await connected(gateway, trust)
    assert serial(between[1]) == serial(before[1])
    pair.key.write_bytes(other.key.read_bytes())
    assert renewal.look()
    after = await connected(gateway, trust)
    assert serial(after[1]) != serial(before[1])
    pair.cert.unlink()
    assert not renewal.look()
    gone = await connected(gateway, trust)
    assert serial(gone[1]) == serial(after[1])
    for _, writer in (before, between, after, gone):
        writer.close()


def test_a_good_pair_says_its_names(authority, tmp_path):
    judged = judge(authority.pair(tmp_path, names=("Corral.LAN", "*.lab", "localhost")), AT)
    assert (judged.names, judged.warnings) == (frozenset({"corral.lan", "localhost"}), ())


@pytest.mark.parametrize(
    ("days", "says"),
    [({"ends": 3}, "expires at"), ({"ends": -1, "begins": -9}, "has expired"), ({"begins": 2}, "only from")],
)
def test_a_certificate_whose_time_is_not_now_is_warned_of(authority, tmp_path, days, says):
    (warning,) = judge(authority.pair(tmp_path, **days), AT).warnings
    assert says in warning


def another(authority, pair, **options):
    return authority.pair(pair.key.parent, prefix="other", **options)


SPOILED = {
    "no certificate": lambda _, pair: pair.cert.unlink(),
    "no key": lambda _, pair: pair.key.unlink(),
    "certificate is a folder": lambda _, pair: (pair.cert.unlink(), pair.cert.mkdir()),
    "certificate is no PEM": lambda _, pair: pair.cert.write_bytes(b"\x30\x82\x01\x00"),
    "certificate is empty": lambda _, pair: pair.cert.write_bytes(b""),
    "key is no PEM": lambda _, pair: pair.key.write_bytes(b"nothing"),
    "key is the certificate": lambda _, pair: pair.key.write_bytes(pair.cert.read_bytes()),
    "key is another's": lambda root, pair: pair.key.write_bytes(another(root, pair).key.read_bytes()),
    "key is for everyone": lambda _, pair: pair.key.chmod(0o644),
    "key is locked": lambda root, pair: another(root, pair, passphrase=b"secret").key.replace(pair.key),
}


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no certificate", "certificate .* cannot be read: No such file"),
        ("no key", "key .* cannot be read: No such file"),
        ("certificate is a folder", "cannot be read: Is a directory"),
        ("certificate is no PEM", "server.crt holds no certificate in PEM"),
        ("certificate is empty", "server.crt holds no certificate in PEM"),
        ("key is no PEM", "server.key holds no private key in PEM"),
        ("key is the certificate", "server.key holds no private key in PEM"),
        ("key is another's", "key .* is not that of the certificate"),
        ("key is for everyone", "Every user .* can read the TLS key .*chmod o-rwx"),
        ("key is locked", "locked with a passphrase"),
    ],
)
def test_what_cannot_serve_is_refused_in_two_sentences(authority, pair, how, says):
    SPOILED[how](authority, pair)
    with pytest.raises(BadInput, match=says) as refused:
        judge(pair, AT)
    assert refused.value.cause.endswith(".")
    assert refused.value.remedy


def test_which_hosts_other_machines_reach():
    assert [is_reached(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::")] == [
        False, False, False, True, True]  # fmt: skip
    with pytest.raises(BadInput):
        is_reached("no.such.host.invalid")


async def test_other_machines_are_let_near_it_with_keys_and_asked_for_one_though_the_last_is_gone():
    keyring = Keyring(reached=True)
    with pytest.raises(BadInput, match="corral keys create"):
        await Gateway(keys=keyring).start("0.0.0.0", 0)
    keyring.replace([], configured=True)
    gateway = Gateway(keys=keyring)
    await gateway.start("0.0.0.0", 0)
    try:
        for configured in (True, False):
            keyring.replace([], configured=configured)
            url = f"http://127.0.0.1:{gateway.port}/v1/models"
            async with aiohttp.request("GET", url, headers={"Host": "some.name.lan"}) as response:
                assert response.status == 401
    finally:
        await gateway.stop(0)


async def test_a_rule_that_asks_nobody_keeps_other_machines_out():
    with pytest.raises(BadInput):
        await Gateway(keys=Keyring(rule="never", reached=True)).start("0.0.0.0", 0)
    gateway = Gateway(keys=Keyring(rule="always", reached=True))
    await gateway.start("0.0.0.0", 0)
    await gateway.stop(0)
