"""What is known of an issued token: what the key manager said, and never more."""

import itertools
import json
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwts import jwt

from gateway.client_authentication import NOBODY, RequestClient, request_client
from gateway.errors import InvalidRequest
from gateway.grants import Grant
from gateway.issued import Issued, OmittedScope, read_issued
from gateway.oauth_messages import Answer, Parameters
from gateway.token_request import undoubted
from gateway.token_response import LONGEST_SECONDS, Unrecorded
from gateway.tokens import Facts, parse_facts, token_key

NOW = 1_700_000_000.75


def client(client_id: str) -> RequestClient:
    return RequestClient(client_id, frozenset({client_id}))


def read(
    members: dict[str, Any],
    *,
    form: Parameters | None = None,
    client: RequestClient = client("demo-key"),  # noqa: B008 -- it is immutable
    omitted_scope: OmittedScope = "none",
) -> Issued:
    members = {"access_token": "secret-1", "token_type": "Bearer", **members}
    return read_issued(
        Answer(200, "OK", [], json.dumps(members).encode()),
        parameters={} if form is None else form,
        client=client,
        now_at=NOW,
        default_expires_in_seconds=3600,
        omitted_scope=omitted_scope,
    )


def recorded(issued: Issued, grant: Grant | None = None) -> dict[str, Any]:
    return issued.completed(grant or Grant()).document()


PASSWORD = {"grant_type": ["password"], "username": ["ALICE"], "scope": ["read write"]}
CLIENT = {"grant_type": ["client_credentials"], "scope": ["read"]}
REFRESH = {"grant_type": ["refresh_token"], "refresh_token": ["refresh-1"]}
CODE = {"grant_type": ["authorization_code"], "code": ["c"], "scope": ["admin"]}
EXCHANGE = {"grant_type": ["urn:ietf:params:oauth:grant-type:token-exchange"], "scope": ["read"]}
ALWAYS = {
    "active": True,
    "client_id": "demo-key",
    "token_type": "Bearer",
    "iat": 1_700_000_000,
    "exp": 1_700_003_600,
}
GRANT = Grant(client_id="demo-key", sub="alice", scope="read write")


@pytest.mark.parametrize(
    ("form", "scope", "expected"),
    [
        (PASSWORD, "read", {"username": "ALICE", "scope": "read"}),
        (PASSWORD, None, {"username": "ALICE"}),
        (PASSWORD, "", {"username": "ALICE", "scope": ""}),
        (CLIENT, None, {}),
        (CLIENT, "read", {"scope": "read"}),
        ({"grant_type": ["client_credentials"]}, None, {}),
        (CODE, "read", {"scope": "read"}),
        (CODE, None, {}),
        (EXCHANGE, None, {}),
        ({"grant_type": ["urn:ietf:params:oauth:grant-type:device_code"]}, None, {}),
        ({}, "read", {"scope": "read"}),
    ],
    ids=lambda value: value.get("grant_type", [""])[0] if isinstance(value, dict) else value,
)
def test_a2_a_scope_that_the_answer_does_not_name_is_not_granted(
    form: Parameters, scope: str | None, expected: dict[str, str]
) -> None:
    """Whatever was asked for: key managers leave out what they didn't grant."""
    members = {} if scope is None else {"scope": scope}
    assert recorded(read(members, form=form)) == ALWAYS | expected


@pytest.mark.parametrize(
    ("form", "answered", "scope"),
    [
        (PASSWORD, None, "read write"),
        (PASSWORD, "", ""),
        (PASSWORD, "read", "read"),
        (CLIENT, None, "read"),
        (EXCHANGE, None, "read"),
        (CLIENT | {"scope": ["read", "admin"]}, None, ""),
        ({"grant_type": ["client_credentials"]}, None, None),
        (CODE, None, None),
        ({"scope": ["admin"]}, None, None),
        (CLIENT | {"grant_type": ["client_credentials", "password"]}, None, None),
    ],
)
def test_a2_a_setting_says_that_a_key_manager_means_as_requested(
    form: Parameters, answered: str | None, scope: str | None
) -> None:
    """RFC 6749 §5.1, where the token request has a scope, and one only."""
    members = {} if answered is None else {"scope": answered}
    issued = read(members, form=form, omitted_scope="as_requested")
    assert recorded(issued).get("scope") == scope


@pytest.mark.parametrize(
    ("answered", "requested", "granted", "scope"),
    [
        (None, None, "read write", "read write"),
        (None, "read", "read write", "read"),
        (None, "read admin", "read write", "read"),
        (None, "read", None, None),
        (None, None, None, None),
        ("read", None, "read write", "read"),
        ("read admin", "read", "read write", "read admin"),
    ],
)
def test_a_refreshed_token_has_the_scope_of_its_grant_at_most(
    answered: str | None, requested: str | None, granted: str | None, scope: str | None
) -> None:
    """RFC 6749 §6; only the key manager's own word goes beyond what the gateway knows."""
    form = REFRESH if requested is None else REFRESH | {"scope": [requested]}
    issued = read({} if answered is None else {"scope": answered}, form=form)
    assert recorded(issued, replace(GRANT, scope=granted)).get("scope") == scope
    trusted = replace(issued, trusts_request=True)
    expected = requested if (answered, granted) == (None, None) else scope
    assert recorded(trusted, replace(GRANT, scope=granted)).get("scope") == expected


def test_a_refreshed_token_keeps_what_its_grant_knows() -> None:
    """The answer to a refresh doesn't name the user; the token before did."""
    grant = replace(GRANT, username="ALICE")
    assert recorded(read({}, form=REFRESH, client=NOBODY), grant) == ALWAYS | {
        "sub": "alice",
        "username": "ALICE",
        "scope": "read write",
    }


def test_a_refresh_by_another_client_takes_nothing_from_the_grant() -> None:
    """The key manager must have refused it (RFC 6749 §6): what it granted isn't known."""
    issued = read({"access_token": jwt({"sub": "bob"})}, form=REFRESH, client=client("other"))
    assert recorded(issued, GRANT) == ALWAYS | {"client_id": "other"}


@pytest.mark.parametrize(
    ("sub", "grant", "expected"),
    [
        ("alice", GRANT, "alice"),
        ("bob", GRANT, None),
        ("service-account", replace(GRANT, sub=None), None),
        ("service-account", Grant(), None),
        (None, GRANT, "alice"),
    ],
)
def test_the_subject_of_a_refreshed_token_is_that_of_its_grant(
    sub: str | None, grant: Grant, expected: str | None
) -> None:
    """A grant without a user gets none by a refresh, and none becomes another's."""
    issued = read({"access_token": jwt({"sub": sub})}, form=REFRESH)
    assert recorded(issued, grant).get("sub") == expected


def test_the_refresh_tokens_are_known_by_digest() -> None:
    """The one that was used, and the one that came: both as token keys."""
    issued = read({"refresh_token": "refresh-2"}, form=REFRESH)
    assert issued.keys == {token_key("secret-1"), token_key("refresh-1"), token_key("refresh-2")}
    assert "secret-1" not in repr(issued)


@pytest.mark.parametrize(
    "id_claims", [{"aud": "demo-key"}, {"aud": ["a", "demo-key"], "azp": "demo-key"}, {}]
)
@pytest.mark.parametrize("form", [CODE, PASSWORD, EXCHANGE])
def test_a7_the_subject_of_an_id_token_is_the_tokens(
    form: Parameters, id_claims: dict[str, Any]
) -> None:
    """OpenID Connect Core §3.1.3.7: over the key manager's own channel it needs no signature."""
    issued = read({"id_token": jwt({"sub": "248289761001", **id_claims})}, form=form)
    assert (issued.sub, issued.client_id) == ("248289761001", "demo-key")


@pytest.mark.parametrize(
    ("client", "audience"),
    [
        (client("demo-key"), "other"),
        (client("demo-key"), ["other", "another"]),
        (client("demo-key"), [["demo-key"]]),
        (client("demo-key"), {}),
        (NOBODY, ["other", "another"]),
    ],
)
def test_a7_an_id_token_for_another_client_names_nobody(
    client: RequestClient, audience: Any
) -> None:
    """OpenID Connect Core §3.1.3.7: its audience must have the client, or it is to be rejected."""
    id_token = jwt({"sub": "alice", "aud": audience})
    assert read({"id_token": id_token}, form=CODE, client=client).sub is None


@pytest.mark.parametrize(
    ("form", "claims", "expected"),
    [
        (CODE, {"sub": "alice"}, "alice"),
        (CODE, {"sub": "alice", "client_id": "demo-key"}, "alice"),
        (PASSWORD, {"sub": "alice"}, "alice"),
        (CODE, {"sub": "demo-key"}, None),
        (CLIENT, {"sub": "alice"}, None),
        ({}, {"sub": "alice"}, None),
        (CODE | {"grant_type": ["a", "b"]}, {"sub": "alice"}, None),
        (CODE, {"sub": 7}, None),
        (CODE, {"sub": ""}, None),
        (CODE, {"sub": "\ud800"}, None),
        (CODE, {}, None),
    ],
)
def test_h6_a_subject_is_a_user_as_the_key_manager_knows_them(
    form: Parameters, claims: dict[str, Any], expected: str | None
) -> None:
    """Neither a client that acts for itself (RFC 9068 §2.2) nor a name as it was typed."""
    assert read({"access_token": jwt(claims)}, form=form).sub == expected


def test_h6_a_client_is_no_user_of_the_same_name() -> None:
    """RFC 9700 §4.15: a client called "alice" has no subject, and an ALICE no "ALICE"."""
    itself = recorded(read({}, form=CLIENT, client=client("alice")))
    typed = recorded(read({}, form=PASSWORD))
    assert itself == ALWAYS | {"client_id": "alice"}
    assert typed == ALWAYS | {"username": "ALICE"}


@pytest.mark.parametrize(
    "form",
    [
        {"grant_type": ["password"], "username": ["alice", "root"]},
        {"grant_type": ["password", "client_credentials"], "username": ["alice"]},
        {"grant_type": ["client_credentials"], "username": ["root"]},
        {"username": ["root"]},
    ],
)
def test_a_request_can_not_lend_a_token_another_user(form: Parameters) -> None:
    """A user name counts only where it is the one whose password was checked."""
    document = recorded(read({}, form=form))
    assert document.keys().isdisjoint({"sub", "username"})


@pytest.mark.parametrize("grant_type", ["authorization_code", "client_credentials", "odd"])
def test_a_refresh_token_counts_only_in_a_refresh(grant_type: str) -> None:
    """Elsewhere the key manager ignores it, and with it somebody else's grant."""
    issued = read({}, form=REFRESH | {"grant_type": [grant_type]})
    assert issued.used_refresh_key is None


TWO = RequestClient(None, frozenset({"svc+prod", "svc prod"}), "two_readings")
UNREADABLE = RequestClient(doubt="unreadable")


@pytest.mark.parametrize(
    ("client", "claims", "id_claims", "expected"),
    [
        (client("m"), {}, {}, ("m", None)),
        (client("m"), {"client_id": "m"}, {"aud": "m"}, ("m", None)),
        (client("m"), {"client_id": "v"}, {}, (None, "contradicted")),
        (client("m"), {"azp": "v"}, {}, (None, "contradicted")),
        (client("m"), {}, {"aud": "v"}, (None, "contradicted")),
        (client("m"), {}, {"aud": ["m", "v"]}, ("m", None)),
        (client("m"), {"client_id": "m"}, {"azp": "v"}, (None, "contradicted")),
        (client("m"), {"aud": "v"}, {}, ("m", None)),
        (client("m"), {"client_id": 7}, {"aud": None}, ("m", None)),
        (TWO, {}, {}, (None, "two_readings")),
        (TWO, {"client_id": "svc+prod"}, {}, ("svc+prod", None)),
        (TWO, {"client_id": "other"}, {}, (None, "contradicted")),
        (UNREADABLE, {}, {}, (None, "unreadable")),
        (UNREADABLE, {"client_id": "v"}, {}, ("v", None)),
        (NOBODY, {}, {"aud": "v"}, ("v", None)),
        (NOBODY, {}, {}, (None, None)),
    ],
)
def test_a8_the_client_is_the_one_that_the_key_manager_accepted(
    client: RequestClient,
    claims: dict[str, Any],
    id_claims: dict[str, Any],
    expected: tuple[str | None, str | None],
) -> None:
    """Its own word goes before the request's, and where both are there they must agree."""
    issued = read({"access_token": jwt(claims), "id_token": jwt(id_claims)}, client=client)
    assert (issued.client_id, issued.client_doubt) == expected


@pytest.mark.parametrize(
    ("answered", "inside", "expected"),
    [
        (None, "read", "read"),
        (None, ["read", "write"], "read write"),
        ("read write", "write admin", "write"),
        ("read", "", ""),
        ("read", None, "read"),
    ],
)
def test_a_scope_is_no_more_than_a_jwt_has(
    answered: str | None, inside: Any, expected: str
) -> None:
    """RFC 9068 §2.2.3: what the key manager says in two places it says in both."""
    members = {"access_token": jwt({"scope": inside}), "scope": answered}
    assert read(members, form=CLIENT).scope == expected


@pytest.mark.parametrize(
    ("expires_in", "claims", "exp"),
    [
        (None, {}, 1_700_003_600),
        (60, {}, 1_700_000_060),
        (60.5, {}, 1_700_000_061),
        ("60", {}, 1_700_000_060),
        (10**400, {}, 1_700_000_000 + LONGEST_SECONDS),
        (None, {"exp": 1_700_000_100}, 1_700_000_100),
        (None, {"exp": 1_700_009_999}, 1_700_009_999),
        (60, {"exp": 1_700_009_999}, 1_700_000_060),
        (600, {"exp": 1_700_000_100.9}, 1_700_000_100),
        (None, {"exp": 10**400}, 1_700_000_000 + LONGEST_SECONDS),
        (60, {"exp": True}, 1_700_000_060),
        (60, {"exp": "1700000001"}, 1_700_000_060),
        (60, {"exp": float("nan")}, 1_700_000_060),
    ],
)
def test_a_life_is_counted_from_the_request(
    expires_in: Any, claims: dict[str, Any], exp: int
) -> None:
    """In whole seconds, the shorter of both; the setting's where the key manager says none."""
    members = {"access_token": jwt(claims), "expires_in": expires_in}
    assert recorded(read(members))["exp"] == exp


@pytest.mark.parametrize(
    ("expires_in", "claims"),
    [(0.2, {}), (600, {"exp": 1_600_000_000}), (600, {"exp": -1}), (600, {"exp": -1e400})],
)
def test_what_has_expired_when_it_was_issued_is_not_recorded(
    expires_in: float, claims: dict[str, Any]
) -> None:
    """No request could rely on it."""
    with pytest.raises(Unrecorded) as caught:
        read({"access_token": jwt(claims), "expires_in": expires_in})
    assert caught.value.reason == "expired"


@pytest.mark.parametrize(
    ("nbf", "expected"),
    [
        (1_700_000_001, None),
        (1_700_000_060, None),
        (1_700_000_600.5, 1_700_000_601),
        (0, None),
        (True, None),
        ("1700000600", None),
        (1e400, 1_700_000_001 + LONGEST_SECONDS),
    ],
)
def test_a_token_that_begins_later_is_recorded_so(nbf: Any, expected: int | None) -> None:
    """RFC 7519 §4.1.5, with a minute for clocks that differ."""
    document = recorded(read({"access_token": jwt({"nbf": nbf})}))
    assert document.get("nbf") == expected
    if expected is not None:
        assert not parse_facts(json.dumps(document), now_at=NOW).active


@pytest.mark.parametrize("claims", [{"cnf": {"jkt": "x"}}, {"cnf": {"x5t#S256": "x"}}])
def test_a6_a_jwt_that_is_bound_to_a_key_is_not_recorded(claims: dict[str, Any]) -> None:
    """Decision 0005, though its type is Bearer."""
    with pytest.raises(Unrecorded) as caught:
        read({"access_token": jwt(claims)})
    assert caught.value.reason == "bound"


def test_a_document_is_read_back_as_the_facts() -> None:
    """What is written is what ``tokens.parse_facts`` accepts."""
    members = {"scope": "read", "access_token": jwt({"sub": "alice"})}
    document = json.dumps(recorded(read(members, form=PASSWORD)))
    assert parse_facts(document, now_at=NOW) == Facts(
        True, "demo-key", "alice", frozenset({"read"}), 1_700_003_600.0, username="ALICE"
    )


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["Bearer", "read write", "demo-key", "60", "\ud800", "1e5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
claims = st.dictionaries(
    st.sampled_from(["sub", "scope", "exp", "nbf", "client_id", "azp", "aud", "cnf"]), values
)
answers = st.dictionaries(
    st.sampled_from(["token_type", "expires_in", "scope", "refresh_token", "issued_token_type"]),
    values,
)


@given(answers, st.none() | claims, st.none() | claims, st.sampled_from([CODE, PASSWORD, REFRESH]))
def test_whatever_a_key_manager_answers_is_recorded_well_or_not_at_all(
    members: dict[str, Any], inside: Any, id_claims: Any, form: Parameters
) -> None:
    """Nothing fails, and each document can be read back."""
    if inside is not None:
        members = {"access_token": jwt(inside), **members}
    if id_claims is not None:
        members = {"id_token": jwt(id_claims), **members}
    try:
        document = recorded(read(members, form=form), GRANT)
    except Unrecorded:
        return
    facts = parse_facts(json.dumps(document), now_at=NOW)
    assert facts.active == ("nbf" not in document)


# Every way to ask, against every way to answer.

QUERIES = (
    None,
    "scope=write+admin",
    "client_id=victim&scope=admin",
    "grant_type=password&username=root",
    "username=root&refresh_token=theirs",
    "client_assertion=x",
)
BODIES: tuple[dict[str, str], ...] = (
    {},
    {"scope": "read write admin"},
    {"client_id": "victim"},
    {"client_id": "m", "client_secret": "s"},
    {"username": "root", "password": "x", "client_id": "m"},
)
GRANT_TYPES = ("client_credentials", "password", "authorization_code", "refresh_token", "odd")
AUTHORIZATIONS: tuple[list[bytes], ...] = (
    [],
    [b"Basic bTpz"],  # m:s
    [b"Basic dmljdGltOg=="],  # victim: without a secret
    [b"Negotiate bTpz"],
)
ASSERTIONS: tuple[dict[str, str], ...] = (
    {},
    {
        "client_assertion": jwt({"iss": "m", "sub": "m"}),
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    },
    {"client_assertion": "encrypted.to.the.key.manager"},
)
SCOPES = (None, "", "read")
SAID: tuple[dict[str, Any], ...] = (
    {},
    {"sub": "alice", "client_id": "m"},
    {"sub": "m", "scope": "read write", "exp": 1_700_000_030},
)
LIVES = (None, 60)
EVERYTHING = list(itertools.product(GRANT_TYPES, BODIES, ASSERTIONS, AUTHORIZATIONS))


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("said", SAID, ids=["opaque", "user", "narrow"])
@pytest.mark.parametrize("expires_in", LIVES)
def test_what_is_recorded_is_never_more_than_what_the_answer_says(
    query: str | None, scope: str | None, said: dict[str, Any], expires_in: int | None
) -> None:
    """Whatever the query, the body, Basic or an assertion claims besides."""
    token = jwt(said) if said else "opaque"
    members = {"access_token": token, "scope": scope, "expires_in": expires_in}
    granted = set((scope or "").split()) if scope is not None else set()
    if "scope" in said:
        inside = set(said["scope"].split())
        granted = inside if scope is None else granted & inside
    for grant_type, body, assertion, authorizations in EVERYTHING:
        form = {"grant_type": grant_type, "refresh_token": "mine", **body, **assertion}
        parameters = undoubted({name: [value] for name, value in form.items()}, query)
        try:
            asking = request_client(authorizations, parameters)
        except InvalidRequest:
            continue  # never sent
        issued = read(members, form=parameters, client=asking)
        told = f"{query} {urlencode(form)} {authorizations} {members}"
        document = recorded(issued)
        assert set(document.get("scope", "").split()) <= granted, told
        assert document.get("sub") in {None, said.get("sub")}, told
        # A client isn't a user, nor what may be one.
        assert document.get("sub") not in asking.readings, told
        if document.get("client_id") is None and grant_type in {"client_credentials", "odd"}:
            assert "sub" not in document, told
        # Whose client it is: the answer's, or what the key manager had to authenticate.
        accepted = {said["client_id"]} if "client_id" in said else asking.readings
        assert document.get("client_id") in accepted | {None}, told
        if grant_type != "password":
            assert "username" not in document, told
        longest = min(expires_in or 3600, 30 if "exp" in said else 3600)
        assert document["exp"] <= NOW + longest, told
        known = recorded(issued, GRANT)
        if issued.used_refresh_key is not None and scope is None and "scope" not in said:
            assert set(known.get("scope", "").split()) <= {"read", "write"}, told
