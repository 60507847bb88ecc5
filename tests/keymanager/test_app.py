"""HTTP: methods, media types, headers, client authentication, and what stays out of the log."""

import logging
from base64 import b64encode
from dataclasses import replace

import pytest
from clocks import FakeClock
from structlog.testing import capture_logs

from gateway.keymanager.attempts import FREE
from gateway.keymanager.config import Client, User
from keymanager.conftest import Start
from keymanager.driver import (
    ALICE,
    CONFIG,
    DEMO,
    OTHER,
    VERIFIER,
    Driver,
    basic,
    code_request,
    read,
    token_request,
)

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
GRANT = {"grant_type": "client_credentials"}


async def test_the_documented_refresh_curl(start: Start) -> None:
    """The refresh request of the users' document works byte for byte."""
    credentials = "SVpzSWk2SERiQjVlOFZLZFpBblVpX2ZaM2Y4YTpHbTBiSjZvV1Y4ZkM1T1FMTGxDNmpzbEFDVzhh"
    consumer = ("IZsIi6HDbB5e8VKdZAnUi_fZ3f8a", "Gm0bJ6oWV8fC5OQLLlC6jslACW8a")
    km = await start(replace(CONFIG, clients=(Client(*consumer),)))
    retoken = (await km.password(consumer))["refresh_token"]
    response = await km.http.post(
        "/token",
        data=f"grant_type=refresh_token&refresh_token={retoken}",
        headers={"Authorization": f"Basic {credentials}", **FORM},
    )
    reply = await read(response)
    assert reply.status == 200
    assert reply.json["refresh_token"] != retoken


async def test_the_documented_revoke_curl(km: Driver) -> None:
    """The revoke request of the users' document works: curl sets the media type."""
    tokens = await km.password()
    pair = b64encode(b"demo-key:demo-secret").decode()
    response = await km.http.post(
        "/revoke",
        data=f"token={tokens['access_token']}",
        headers={"Authorization": f"Basic {pair}", **FORM},
    )
    assert (response.status, await km.active(tokens["access_token"])) == (200, [False])


@pytest.mark.parametrize("path", ["/token", "/revoke", "/introspect"])
async def test_answers_are_not_stored(km: Driver, path: str) -> None:
    """Good answers and bad ones carry no-store (RFC 6749 §5.1)."""
    replies = [
        await km.post(path, {**GRANT, "token": "x"}),
        await km.post(path, {**GRANT, "token": "x"}, ("nobody", "x")),
        await km.post(path, {}),
        await read(await km.http.get(path)),
    ]
    assert [reply.status for reply in replies] == [200, 401, 400, 405]
    headers = {(reply.headers["Cache-Control"], reply.headers["Pragma"]) for reply in replies}
    assert headers == {("no-store", "no-cache")}


@pytest.mark.parametrize("path", ["/token", "/revoke", "/introspect"])
async def test_other_methods(km: Driver, path: str) -> None:
    """A method that the endpoint doesn't have is 405 with Allow and a JSON error."""
    replies = [await read(await km.http.request(method, path)) for method in ("GET", "PUT")]
    assert [reply.error for reply in replies] == [(405, "method_not_allowed")] * 2
    assert "POST" in replies[0].headers["Allow"]


async def test_unknown_path(km: Driver) -> None:
    """Another path is 404, in JSON."""
    assert (await read(await km.http.post("/tokens"))).error == (404, "not_found")


@pytest.mark.parametrize("path", ["/token", "/revoke"])
async def test_preflight(km: Driver, path: str) -> None:
    """A CORS preflight needs no authentication and allows what clients send."""
    response = await km.http.options(path, headers={"Origin": "https://app.example"})
    assert response.status == 204
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Access-Control-Allow-Methods"] == "POST, OPTIONS"
    assert response.headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type"


async def test_cors(km: Driver) -> None:
    """Scripts may read answers, errors too, of the endpoints that browsers call; not others."""
    replies = [
        await km.post("/token", GRANT),
        await km.post("/revoke", {}),
        await km.post("/introspect", {"token": "x"}),
        await km.page(**code_request()),
    ]
    allowed = [reply.headers.get("Access-Control-Allow-Origin") for reply in replies]
    assert allowed == ["*", "*", None, None]


@pytest.mark.parametrize("path", ["/token", "/revoke", "/introspect"])
@pytest.mark.parametrize(
    ("headers", "form"),
    [
        ({}, {}),
        ({}, {"client_id": "demo-key"}),
        ({}, {"client_id": "demo-key", "client_secret": "demo-secre"}),
        ({}, {"client_id": "nobody", "client_secret": "demo-secret"}),
        ({}, {"client_id": "public-app", "client_secret": "x"}),
        (basic(("demo-key", "wrong")), {}),
        (basic(("nobody", "demo-secret")), {}),
        (basic(("demo-key", "")), {}),
        ({"Authorization": "Bearer demo-secret"}, {}),
        ({"Authorization": "Basic !"}, {}),
        ({"Authorization": "Basic"}, {}),
    ],
)
async def test_failed_authentication(
    km: Driver, path: str, headers: dict[str, str], form: dict[str, str]
) -> None:
    """Whatever is wrong with the credentials: invalid_client, with a challenge for Basic."""
    data = {**GRANT, "token": "x", **form}
    reply = await read(await km.http.post(path, data=data, headers=headers))
    assert reply.error == (401, "invalid_client")
    assert reply.headers["WWW-Authenticate"] == 'Basic realm="key manager", charset="UTF-8"'


async def test_credentials_in_the_body(km: Driver) -> None:
    """A client may send its secret as parameters (RFC 6749 §2.3.1)."""
    form = {"client_id": "demo-key", "client_secret": "demo-secret", **GRANT}
    assert (await km.post("/token", form, None)).status == 200


async def test_credentials_are_decoded(km: Driver) -> None:
    """An identifier or secret with special characters comes form-urlencoded within Basic."""
    assert (await km.post("/token", GRANT, OTHER)).status == 200


@pytest.mark.parametrize(
    "form",
    [
        {"client_secret": "demo-secret"},
        {"client_id": "demo-key", "client_secret": "demo-secret"},
        {"client_id": "other-key"},
    ],
)
async def test_two_methods_of_authentication(km: Driver, form: dict[str, str]) -> None:
    """Basic and a secret in the body, or two identifiers, are invalid_request (§2.3)."""
    assert (await km.post("/token", {**GRANT, **form})).error == (400, "invalid_request")


async def test_the_same_identifier_twice(km: Driver) -> None:
    """client_id beside Basic is no second method while it is the same."""
    assert (await km.post("/token", {**GRANT, "client_id": "demo-key"})).status == 200


async def test_two_authorization_headers(km: Driver) -> None:
    """Two Authorization headers are more than one method."""
    headers = [*basic(DEMO).items(), *basic(OTHER).items()]
    reply = await read(await km.http.post("/token", data=GRANT, headers=headers))
    assert reply.error == (400, "invalid_request")


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"grant_type=client_credentials&grant_type=client_credentials", FORM["Content-Type"]),
        (b"grant_type=client_credentials&scope=read&scope=write", FORM["Content-Type"]),
        (b"grant_type=client_credentials&scope=%ff", FORM["Content-Type"]),
        (b"grant_type=client_credentials&scope=\xff", FORM["Content-Type"]),
        (b"", FORM["Content-Type"]),
        (b'{"grant_type": "client_credentials"}', "application/json"),
        (b"grant_type=client_credentials", "text/plain"),
    ],
)
async def test_malformed_bodies(km: Driver, body: bytes, media_type: str) -> None:
    """Duplicates, what isn't UTF-8, and other media types are invalid_request (§3.2)."""
    headers = {**basic(DEMO), "Content-Type": media_type}
    reply = await read(await km.http.post("/token", data=body, headers=headers))
    assert reply.error == (400, "invalid_request")


async def test_media_type_parameters(km: Driver) -> None:
    """A charset after the media type does no harm."""
    headers = {**basic(DEMO), "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}
    body = b"grant_type=client_credentials"
    assert (await km.http.post("/token", data=body, headers=headers)).status == 200


async def test_parameters_in_the_uri(km: Driver) -> None:
    """Parameters in the URI are refused: they would end up in logs (§2.3.1)."""
    response = await km.http.post("/token?scope=read", data=GRANT, headers=basic(DEMO))
    assert (await read(response)).error == (400, "invalid_request")


async def test_a_large_body(km: Driver) -> None:
    """A body of over 64 KiB is refused."""
    reply = await km.post("/token", {**GRANT, "scope": "x" * 70_000})
    assert reply.error == (413, "content_too_large")


async def test_nothing_secret_is_logged(km: Driver, caplog: pytest.LogCaptureFixture) -> None:
    """With every logger at DEBUG, no token, code, secret, password or verifier is in the log."""
    caplog.set_level(logging.DEBUG)
    with capture_logs() as events:
        secrets = await story_with_secrets(km)
    said = f"{events} {[record.__dict__ for record in caplog.records]} {caplog.text}"
    assert "refresh token replayed" in said
    assert [secret for secret in secrets if secret in said] == []


async def story_with_secrets(km: Driver) -> list[str]:
    """Everything that goes well and wrong once; all that must stay secret of it."""
    code = await km.code()
    redeemed = (await km.redeem(code)).json
    password = await km.password()
    refreshed = (await km.refresh(password["refresh_token"])).json
    implicit = await km.decide(token_request(), **ALICE, decision="allow")
    issued = [code, implicit.location[1]["access_token"]]
    for tokens in (redeemed, password, refreshed):
        issued += [tokens["access_token"], tokens["refresh_token"]]
    await km.redeem(code)
    await km.refresh(password["refresh_token"])
    await km.revoke(implicit.location[1]["access_token"])
    await km.active(*issued)
    await km.token(grant_type="password", username="alice", password="mistyped-password")
    await km.token(client=("demo-key", "mistyped-secret"), **GRANT)
    await km.decide(code_request(), username="oops", password="typed-here", decision="allow")
    typed = ["mistyped-password", "mistyped-secret", "oops", "typed-here", VERIFIER]
    return [*issued, *typed, "demo-secret", "wonderland", basic(DEMO)["Authorization"]]


async def test_an_unexpected_error(
    km: Driver, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours is a 500 in JSON; the log has the kind of error and not its message."""

    def fail(*args: object) -> None:
        raise RuntimeError("demo-secret")

    # No input is known to do this, so the fault has to be put in.
    monkeypatch.setattr("gateway.keymanager.app.client_credentials", fail)
    with capture_logs() as events:
        reply = await km.post("/token", GRANT)
    assert reply.error == (500, "server_error")
    expected = {"event": "unexpected error", "error": "RuntimeError", "log_level": "error"}
    assert (events, caplog.text) == ([expected], "")


async def test_wrong_passwords_are_slowed_down(km: Driver, clock: FakeClock) -> None:
    """A user's at /token and a client's anywhere: 429, until the wait is over (RFC 6749 §4.3.2)."""
    wrong = {"grant_type": "password", "username": "alice", "password": "x"}
    for _ in range(FREE):
        await km.post("/token", wrong)
        await km.post("/introspect", {"token": "x"}, ("other-key", "x"))
    late = [
        await km.post("/token", wrong | {"password": "wonderland"}),
        *[await km.post(path, {"token": "x"}, OTHER) for path in ("/revoke", "/introspect")],
    ]
    assert [(*reply.error, reply.headers["Retry-After"]) for reply in late] == [
        (429, "slow_down", "1")
    ] * 3
    assert (await km.post("/token", GRANT)).status == 200
    clock.advance(1)
    assert (await km.post("/token", wrong | {"password": "wonderland"})).status == 200
    assert (await km.post("/token", GRANT, OTHER)).status == 200


async def test_whoever_guesses_elsewhere_slows_nobody_down(km: Driver) -> None:
    """The user's own address counts, as the gateway in front tells it."""
    form = {"grant_type": "password", "username": "alice"}

    async def tried(address: str, password: str) -> int:
        headers = basic(DEMO) | {"X-Forwarded-For": f"203.0.113.{len(password)}, {address}"}
        data = form | {"password": password}
        return (await km.http.post("/token", data=data, headers=headers)).status

    guesses = [await tried("192.0.2.1", "x" * number) for number in range(1, 9)]
    assert guesses == [400] * FREE + [429] * 3
    assert await tried("192.0.2.2", "wonderland") == 200


async def test_a_request_without_a_secret_is_no_guess(km: Driver) -> None:
    """A client that forgot its secret, however often, makes nobody wait."""
    for _ in range(FREE + 1):
        assert (await km.post("/token", {**GRANT, "client_id": "demo-key"}, None)).status == 401
    assert (await km.post("/token", GRANT)).status == 200


@pytest.mark.parametrize("path", ["/token", "/revoke", "/introspect", "/admin/revoke"])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"token=x", {"Content-Encoding": "gzip"}),
        (b"token=x", {"Content-Type": f"{FORM['Content-Type']}; charset=utf-16"}),
        (b"token=x", {"Content-Type": "multipart/form-data; boundary=b"}),
        (b"token=x", {"Content-Type": "text/plain"}),
        (b'{"token": "x"}', {"Content-Type": "application/json"}),
        (b"token=x&token=y", {}),
        (b"token=%ff", {}),
        (b"token=%ed%a0%80", {}),
        (b"&".join(b"a%d=1" % number for number in range(65)), {}),
    ],
)
async def test_a_body_that_is_no_form(
    start: Start, path: str, body: bytes, headers: dict[str, str]
) -> None:
    """At every endpoint it is invalid_request in JSON, and no fault of the server's."""
    km = await start(replace(CONFIG, admins=(User(*DEMO),)))
    response = await km.http.post(path, data=body, headers=basic(DEMO) | FORM | headers)
    assert (await read(response)).error == (400, "invalid_request")


async def test_answers_are_what_they_say(km: Driver) -> None:
    """No browser takes an answer for something else than JSON."""
    replies = [await km.post("/token", GRANT), await km.post("/token", {}), await km.post("/x", {})]
    assert {reply.headers["X-Content-Type-Options"] for reply in replies} == {"nosniff"}


async def test_an_expectation(km: Driver) -> None:
    """One that can't be met is 417 and isn't repeated; 100-continue is met."""
    headers = basic(DEMO) | {"Expect": "Basic c2VjcmV0"}
    refused = await read(await km.http.post("/token", data=GRANT, headers=headers))
    met = await km.http.post("/token", data=GRANT, headers=basic(DEMO), expect100=True)
    assert (refused.status, "c2VjcmV0" in refused.text, met.status) == (417, False, 200)
