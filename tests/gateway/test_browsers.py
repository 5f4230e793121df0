"""Web pages from elsewhere cannot use the server through their visitor's browser; programs and local pages can."""

import pytest

from corral.gateway.wire.browsers import host_allowed, origin_allowed

NONE: frozenset[str] = frozenset()
CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"localhost",
        b"LOCALHOST:8000",
        b"127.0.0.1:8000",
        b"[::1]:8000",
        b"192.168.1.5",
        b"app.localhost:1",
        b"localhost.",
    ],
)
def test_addresses_and_loopback_names_are_safe(host):
    assert host_allowed(host, NONE)


@pytest.mark.parametrize(
    "host",
    [b"evil.example", b"localhost.evil.example:8000", b"127.0.0.1.evil.example", b"evil.example#localhost", b"[::1",
     b"\xff", b"a@evil.example", b":8000", b"x" * 10_000],
)  # fmt: skip
def test_names_that_could_be_rebound_are_not(host):
    assert not host_allowed(host, NONE)


def test_a_name_of_ones_own_is_allowed_by_name():
    assert host_allowed(b"Head.lan:8000", frozenset({"head.lan"}))
    assert origin_allowed(b"https://head.lan", b"127.0.0.1", frozenset({"head.lan"}))


@pytest.mark.parametrize(
    "origin", [b"http://localhost:3000", b"http://127.0.0.1", b"http://[::1]:3000", b"http://10.0.0.1:8000"]
)
def test_local_pages_and_the_servers_own_may_ask(origin):
    assert origin_allowed(origin, b"10.0.0.1:8000", NONE)


@pytest.mark.parametrize(
    "origin",
    [b"https://evil.example", b"null", b"", b"http://localhost.evil.example", b"file://", b"http://10.0.0.2:8000",
     b"chrome-extension://localhost", b"http://[", b"x" * 10_000],
)  # fmt: skip
def test_pages_from_elsewhere_may_not(origin):
    assert not origin_allowed(origin, b"10.0.0.1:8000", NONE)


async def test_a_rebound_name_is_refused_everywhere(http, engine):
    for method, path in (("GET", "/v1/models"), ("POST", CHAT), ("GET", "/metrics")):
        async with http.request(method, path, headers={"Host": "evil.example"}) as response:
            assert response.status == 403
            assert (await response.json())["error"]["code"] == "host_not_allowed"
    assert not engine.calls


async def test_a_foreign_page_reaches_no_engine(http, engine):
    headers = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    for method in ("POST", "OPTIONS"):
        async with http.request(method, CHAT, data=b"{}", headers=headers) as response:
            assert response.status == 403
            assert (await response.json())["error"]["code"] == "origin_not_allowed"
            assert "access-control-allow-origin" not in response.headers
    assert not engine.calls


async def test_a_local_page_may_ask_and_read(http):
    origin = {"Origin": "http://localhost:3000"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type, x-stainless-os"}
    async with http.options(CHAT, headers=origin | asked) as response:
        assert response.status == 204
        assert response.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert response.headers["access-control-allow-headers"] == "content-type, x-stainless-os"
    async with http.post(CHAT, data=b"{}", headers=origin) as response:
        assert response.status == 200
        assert response.headers["access-control-allow-origin"] == "http://localhost:3000"
    async with http.post(CHAT, data=b"{", headers=origin) as response:
        assert response.status == 400
        assert response.headers["access-control-allow-origin"] == "http://localhost:3000"


async def test_options_without_a_browser(http):
    async with http.options("/v1/models") as response:
        assert (response.status, response.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
