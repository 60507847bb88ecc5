"""What settings are made of: durations, sizes, paths, URLs, names.

Each parser raises ``ValueError`` with a sentence that says what is allowed.
"""

import ipaddress
import re
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")
_METHOD = re.compile(r"[A-Z][A-Z-]*")
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


def parse_duration(value: Any) -> timedelta:
    """Return the duration written as ``"250ms"``, ``"15m"`` or ``"1h30m"``."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        parts = _DURATION.findall(value)
        if parts and "".join(number + unit for number, unit in parts) == value:
            return timedelta(seconds=sum(float(n) * _DURATION_UNITS[u] for n, u in parts))
    raise ValueError('a duration such as "250ms", "15m" or "1h30m" is allowed')


def format_duration(value: timedelta) -> str:
    """Write a duration as settings do, in the largest unit that keeps it whole."""
    milliseconds = round(value.total_seconds() * 1000)
    for unit, factor in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % factor == 0:
            return f"{milliseconds // factor}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def parse_size(value: Any) -> int:
    """Return the bytes in a size written as ``"16KiB"`` or ``"10MiB"``."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        return int(match[1]) * _SIZE_UNITS[match[2] or ""]
    raise ValueError('a size such as "512B", "16KiB" or "10MiB" is allowed')


def format_size(value: int) -> str:
    """Write a size as settings do, in the largest unit that keeps it whole."""
    for unit in ("GiB", "MiB", "KiB"):
        if value and value % _SIZE_UNITS[unit] == 0:
            return f"{value // _SIZE_UNITS[unit]}{unit}"
    return f"{value}B"


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("a duration above zero is allowed")
    return value


def _absolute_path(value: str) -> str:
    # The path policy (headers.py) refuses such paths in requests, so no route could match one.
    if not value.startswith("/") or re.search(
        r"[\x00-\x20?#%\\\x7f-\U0010ffff]|//|/\.{1,2}(/|$)", value
    ):
        raise ValueError('a path such as "/orders" is allowed, without "..", "//", "%", "?" or "#"')
    return value


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname)
        valid = valid and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or "?" in value or "#" in value or "@" in value or re.search(r"\s", value):
        raise ValueError(
            "a URL such as http://127.0.0.1:9000/base is allowed, without query or user"
        )
    return value.rstrip("/")


def _header_name(value: str) -> str:
    if not _HEADER_NAME.fullmatch(value):
        raise ValueError("letters, digits and hyphens are allowed")
    return value


def _method(value: str) -> str:
    if not _METHOD.fullmatch(value) or value in {"CONNECT", "TRACE"}:
        raise ValueError('a method such as "GET" is allowed, but not CONNECT or TRACE')
    return value


def _scope_token(value: str) -> str:
    if not _SCOPE_TOKEN.fullmatch(value):
        raise ValueError("one scope token is allowed, without spaces, quotes or backslashes")
    return value


def _quotable(value: str) -> str:
    if not re.fullmatch(r"[\x20\x21\x23-\x5b\x5d-\x7e]+", value):
        raise ValueError("printable ASCII without quotes or backslashes is allowed")
    return value


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError('an address or network such as "10.0.0.0/8" is allowed') from None


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
]
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]
Size = Annotated[
    int, BeforeValidator(parse_size), PlainSerializer(format_size, return_type=str), Field(ge=0)
]
Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=1)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
UrlPath = Annotated[str, AfterValidator(_absolute_path)]
Method = Annotated[str, AfterValidator(_method)]
ScopeToken = Annotated[str, AfterValidator(_scope_token)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
Quotable = Annotated[str, AfterValidator(_quotable)]
Network = Annotated[str, AfterValidator(_network)]
