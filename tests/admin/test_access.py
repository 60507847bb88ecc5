"""Who may ask the admin API: names, origins and tokens."""

import pytest
from multidict import CIMultiDict
from pydantic import SecretStr

from gateway.admin.access import Access
from gateway.settings import Admin

HERE = "127.0.0.1:9090"
LOOPBACK = Admin(token=SecretStr("s3cret"), hosts=("admin.example", "192.0.2.9"))
BEYOND = Admin(host="0.0.0.0", token=SecretStr("s3cret"))
GOOD = "Bearer s3cret"


def status(admin: Admin, *, changing: bool = False, **headers: str) -> int | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    refusal = Access(admin).judge(CIMultiDict(named), changing=changing)
    return None if refusal is None else refusal.status


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:9090", None),
        ("127.0.0.1", None),
        ("localhost:1234", None),
        ("LOCALHOST.:9090", None),
        ("[::1]:9090", None),
        ("127.5.5.5", None),
        ("admin.example:9090", None),
        ("192.0.2.9", None),
        ("evil.example:9090", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.0.2.1", 421),
        ("[::1", 421),
        ("[nonsense]:1", 421),
        ("user@127.0.0.1@evil.example", 421),
        ("", 421),
    ],
)
def test_on_loopback_only_its_own_names_are_answered(host: str, expected: int | None) -> None:
    """A page that had its own name resolve to 127.0.0.1 still asks under that name."""
    assert status(LOOPBACK, Host=host) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Origin": "http://127.0.0.1:9090", "Sec-Fetch-Site": "same-origin"}, None),
        ({"Origin": "https://127.0.0.1:9090"}, None),
        ({"Sec-Fetch-Site": "none"}, None),
        ({"Origin": "http://127.0.0.1:8080"}, 403),
        ({"Origin": "http://localhost:9090"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
@pytest.mark.parametrize("admin", [LOOPBACK, BEYOND], ids=["loopback", "beyond"])
def test_pages_of_other_origins_are_refused(
    admin: Admin, headers: dict[str, str], expected: int | None
) -> None:
    """Even with the token, and wherever the port is."""
    asked = {"Host": HERE, "Authorization": GOOD, **headers}
    assert status(admin, changing=True, **asked) == expected


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (GOOD, None),
        ("bearer  s3cret", None),
        ("Bearer s3cret2", 401),
        ("Bearer s3cre", 401),
        ("Bearer S3CRET", 401),
        ("Bearer \u00e9\udc80", 401),
        ("Bearer", 401),
        ("Basic s3cret", 401),
        ("s3cret", 401),
        ("", 401),
    ],
)
@pytest.mark.parametrize(("admin", "changing"), [(LOOPBACK, True), (BEYOND, True), (BEYOND, False)])
def test_a_call_that_needs_the_token_needs_all_of_it(
    admin: Admin, authorization: str, changing: bool, expected: int | None
) -> None:
    """Calls that change something do, and beyond loopback all."""
    asked = status(admin, changing=changing, Host=HERE, Authorization=authorization)
    assert asked == expected


def test_on_loopback_reading_needs_no_token() -> None:
    """Metrics tell as much, and are open too."""
    assert status(Admin(), Host=HERE) is None


def test_without_a_token_nothing_can_be_changed() -> None:
    """Not even on loopback, where any process of any user could."""
    assert status(Admin(), changing=True, Host=HERE, Authorization="Bearer ") == 403


def test_a_refusal_for_want_of_a_token_is_a_challenge() -> None:
    """RFC 9110 §11.6.1: 401 has WWW-Authenticate."""
    refusal = Access(LOOPBACK).judge(CIMultiDict(Host=HERE), changing=True)
    assert refusal is not None
    assert dict(refusal.headers) == {"WWW-Authenticate": 'Bearer realm="gateway admin"'}
