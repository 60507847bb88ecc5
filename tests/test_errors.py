"""Errors: what each answers on the wire, and that metrics tell them apart."""

from http import HTTPStatus

import pytest

from gateway import errors
from gateway.errors import GatewayError, SettingsError, StoreUnavailable, TooManyConnections

ALL: list[type[GatewayError]] = [GatewayError, *GatewayError.__subclasses__()]

ANSWERS = {
    "GatewayError": (500, "server_error", False),
    "BadRequest": (400, "bad_request", True),
    "NoCredentials": (401, "unauthorized", False),
    "InvalidRequest": (400, "invalid_request", False),
    "InvalidToken": (401, "invalid_token", False),
    "InsufficientScope": (403, "insufficient_scope", False),
    "NoRoute": (404, "not_found", False),
    "MethodNotAllowed": (405, "method_not_allowed", False),
    "MethodNotImplemented": (501, "not_implemented", False),
    "RequestTimeout": (408, "request_timeout", True),
    "ContentTooLarge": (413, "content_too_large", True),
    "UnsupportedMediaType": (415, "invalid_request", False),
    "ExpectationFailed": (417, "expectation_failed", True),
    "HeadersTooLarge": (431, "headers_too_large", True),
    "NotImplementedHere": (501, "not_implemented", True),
    "StoreUnavailable": (503, "temporarily_unavailable", False),
    "TooManyConnections": (503, "temporarily_unavailable", True),
    "UpstreamUnreachable": (502, "bad_gateway", False),
    "UpstreamInvalid": (502, "bad_gateway", False),
    "UpstreamTimeout": (504, "gateway_timeout", False),
}


def test_answers() -> None:
    """Every error has its status, its code, and says whether the connection can go on."""
    assert {each.__name__: (each.status, each.code, each.close) for each in ALL} == ANSWERS


def test_two_levels() -> None:
    """No error is a kind of another: a handler of one never takes the other along."""
    assert [each for each in ALL if each.__subclasses__()] == [GatewayError]


def test_outcomes_are_distinct() -> None:
    """Each error is counted by itself, also those that share a status and a code."""
    outcomes = [each.outcome for each in ALL]
    assert len(set(outcomes)) == len(outcomes)
    assert all(outcome.replace("_", "").isalpha() for outcome in outcomes)


@pytest.mark.parametrize("error", ALL)
def test_statuses_are_of_http(error: type[GatewayError]) -> None:
    """Every status is a registered one of an error, and every class says what it stands for."""
    assert HTTPStatus(error.status) >= 400
    assert error.__doc__


@pytest.mark.parametrize("error", [StoreUnavailable, TooManyConnections])
def test_what_passes_by_itself_says_when(error: type[GatewayError]) -> None:
    """A 503 has Retry-After (RFC 9110 §15.6.4)."""
    assert dict(error().headers) == {"Retry-After": "1"}


def test_what_an_error_says() -> None:
    """The description is what was given; without one the exception's text is the code."""
    assert str(GatewayError("Text.")) == GatewayError("Text.").description == "Text."
    assert (str(GatewayError()), GatewayError().description) == ("server_error", "")
    assert GatewayError(headers=[("Allow", "GET")]).headers == (("Allow", "GET"),)


def test_settings_errors() -> None:
    """Each fault of the settings is a line of its own."""
    error = SettingsError("a: b", "c: d")
    assert (str(error), error.faults) == ("a: b\nc: d", ("a: b", "c: d"))
    assert not isinstance(error, errors.GatewayError)
