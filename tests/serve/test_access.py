"""Who may ask the server."""

from __future__ import annotations

import base64

import pytest

from workbench.errors import NotServed, UsageError
from workbench.serve import Access, access_for

HOME = {"host": "127.0.0.1:7860"}


def refused(access: Access, headers: dict[str, str], *, path: str = "/generate", method: str = "POST") -> int | None:
    found = access.refusal(path, method, headers)
    return int(found[0]) if found else None


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost", "localhost:7860", "[::1]:7860", "localhost."])
def test_this_machine_may_ask(host: str) -> None:
    assert refused(Access(), {"host": host}) is None
    assert refused(Access(), {"host": host, "origin": f"http://{host}"}) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": ""},
        {},
        {"host": "127.0.0.1.evil.example"},
        {"host": "192.168.0.7"},
        {"host": "[::"},
        {"host": "evil.com@127.0.0.1"},
        {"host": "127.0.0.1#.evil.com"},
        {"host": "127.0.0.1/.evil.com"},
        {"host": "evil.com\\@127.0.0.1"},
        {**HOME, "origin": "http://["},
        {**HOME, "origin": "ftp://127.0.0.1:7860"},
        {**HOME, "origin": "http://evil.example"},
        {**HOME, "origin": "null"},
        {**HOME, "origin": "http://127.0.0.1:9999"},
        {**HOME, "sec-fetch-site": "cross-site"},
        {**HOME, "sec-fetch-site": "same-site"},
    ],
)
def test_a_foreign_host_or_page_may_not(headers: dict[str, str]) -> None:
    assert refused(Access(), headers) == 403


def test_a_page_that_was_named_may_and_its_preflight_is_let_through() -> None:
    access = access_for("127.0.0.1", None, no_token=False, origins=["http://localhost:3005"])
    assert refused(access, {**HOME, "origin": "http://localhost:3005"}) is None
    assert refused(access, {**HOME, "origin": "http://localhost:3006"}) == 403
    with_token = Access("secret-token", ("http://localhost:3005",))
    assert refused(with_token, {**HOME, "origin": "http://localhost:3005"}, method="OPTIONS") is None


def test_an_origin_is_written_as_browsers_write_it() -> None:
    access = access_for("127.0.0.1", None, no_token=False, origins=["http://Localhost:3005", "http://here.example:80"])
    assert access.origins == ("http://localhost:3005", "http://here.example")


def test_the_token_is_wanted_everywhere_but_where_monitors_ask() -> None:
    access = Access("secret-token")
    basic = base64.b64encode(b"anyone:secret-token").decode()
    assert refused(access, {**HOME, "authorization": "Bearer secret-token"}) is None
    assert refused(access, {**HOME, "authorization": f"Basic {basic}"}) is None
    for shown in (
        "",
        "Bearer",
        "Bearer secret-tokem",
        "Basic %%%",
        "Basic " + base64.b64encode(b"secret-token").decode(),
        "Digest x",
    ):
        assert refused(access, {**HOME, "authorization": shown}) == 401
    for path in ("/", "/metrics", "/docs", "/openapi.json", "/preset"):
        assert refused(access, HOME, path=path, method="GET") == 401
    assert refused(access, HOME, path="/health", method="GET") is None


def test_another_host_needs_a_token_or_the_word_that_it_needs_none() -> None:
    with pytest.raises(NotServed, match=r"at 0\.0\.0\.0 everybody .* ssh -L .* --no-token"):
        access_for("0.0.0.0", None, no_token=False)
    open_to_all = access_for("0.0.0.0", None, no_token=True)
    assert refused(open_to_all, {"host": "203.0.113.9:7860"}) is None
    assert refused(open_to_all, {"host": "evil.example"}) == 403  # a name can be rebound to this machine's address
    assert access_for("0.0.0.0", "secret-token", no_token=False).token == "secret-token"


@pytest.mark.parametrize(
    ("token", "origins", "words"),
    [
        ("", [], "is empty"),
        ("short", [], "can be guessed"),
        (None, ["localhost:3005"], "is no origin"),
        (None, ["http://a/b"], "is no origin"),
        *(
            (None, [origin], "is no origin")
            for origin in ("http://", "http://*", "http://u@h", "https://x?y#z", "http://[")
        ),
        ("pässwört1", [], "other than ASCII"),
        ("abcdefgh\n", [], "other than ASCII"),
    ],
)
def test_what_makes_no_sense_is_said_at_the_start(token: str | None, origins: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        access_for("127.0.0.1", token, no_token=False, origins=origins)
