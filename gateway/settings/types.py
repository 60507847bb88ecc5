"""What settings are made of: numbers, durations, sizes, paths, URLs, names.

Each parser raises ``ValueError`` with a sentence that says what is allowed. None takes a
string for a number: a settings file has both, and what the environment says is converted
before it gets here (``fields.py``).
"""

import ipaddress
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, SecretStr, StrictBool

from gateway.settings.store_url import parse_store_url

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,12}) ?(B|KiB|MiB|GiB)?")
_MOST = 2**31 - 1  # what C calls an int: the largest number that sockets and pools take
_HEADER_NAME = re.compile(r"[A-Za-z0-9-]+")
_METHOD = re.compile(r"[A-Z][A-Z0-9!#$%&'*+.^_`|~-]{0,63}")
_ORIGIN = re.compile(
    r"([a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(0|[1-9][0-9]{0,4}))?"
)
_DEFAULT_PORTS = {"http": {"80"}, "https": {"443"}}
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


Place = tuple[str | int, ...]
"""The way down to a value, such as ``("routes", 0, "path")``."""


class Conflict(ValueError):
    """Settings that are right alone and wrong together.

    ``faults`` has, for each, its place, counted from the model that raises this, and what is
    allowed.
    """

    def __init__(self, *faults: tuple[Place, str]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, at))}: {text}" for at, text in faults))
        self.faults = faults


def parse_duration(value: Any) -> timedelta:
    """Return the duration written as ``"250ms"``, ``"15m"`` or ``"1h30m"``.

    Raises:
        ValueError: it isn't written so, or isn't a whole number of milliseconds.
    """
    if isinstance(value, timedelta) and value >= timedelta(0):
        return value
    if isinstance(value, str):
        parts = _DURATION.findall(value)
        milliseconds = sum(float(n) * _DURATION_UNITS[u] * 1000 for n, u in parts)
        if (
            parts
            and "".join(number + unit for number, unit in parts) == value
            and abs(milliseconds - round(milliseconds)) < 1e-6
            and milliseconds < _DURATION_UNITS["d"] * 1000 * 36_525
        ):
            return timedelta(milliseconds=round(milliseconds))
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
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
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


def _whole_number(least: int, most: int, what: str) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"{what} from {least} to {most} is allowed")
        return value

    return check


def _at_least(size: int) -> Callable[[int], int]:
    def check(value: int) -> int:
        if value < size:
            raise ValueError(f"{format_size(size)} or more is allowed")
        return value

    return check


def _file(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError("the path of a file is allowed")
    return Path(value)


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("a duration above zero is allowed")
    return value


def _absolute_path(value: str) -> str:
    # The path policy (routes.py) refuses such paths in requests, so no route could match one.
    if not value.startswith("/") or re.search(
        r"[\x00-\x20?#%;\\\x7f-\U0010ffff]|//|/\.{1,2}(/|$)", value
    ):
        raise ValueError(
            'a path such as "/orders" is allowed, without "..", "//", "%", ";", "?" or "#"'
        )
    return value


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname)
        valid = valid and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or set("?#@\\") & set(value) or not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValueError(
            "a URL such as http://127.0.0.1:9000/base is allowed, without query or user"
        )
    return value


def same_path(path: str) -> str:
    """Return what is the same for all paths that a lenient server takes for one endpoint's.

    Many serve "/token/" as "/token", and some "/Token".
    """
    return path.rstrip("/").lower()


def _base_url(value: str) -> str:
    return _http_url(value).rstrip("/")


def _header_name(value: str) -> str:
    if not _HEADER_NAME.fullmatch(value):
        raise ValueError("letters, digits and hyphens are allowed")
    return value


def _method(value: str) -> str:
    # Methods are case-sensitive (RFC 9110 §9.1): "get" is none that any client sends.
    if not _METHOD.fullmatch(value) or value in {"CONNECT", "TRACE", "PRI"}:
        raise ValueError(
            'a method such as "GET" is allowed, in upper case, but not CONNECT, TRACE or PRI'
        )
    return value


def _origin(value: str) -> str:
    match = _ORIGIN.fullmatch(value)
    if value != "*" and (match is None or match[2] in _DEFAULT_PORTS.get(match[1], ())):
        raise ValueError(
            'an origin such as "https://app.example" is allowed, as browsers send it: in lower '
            'case, without a path and a default port; or "*" for all'
        )
    return value


def _scope_token(value: str) -> str:
    if not _SCOPE_TOKEN.fullmatch(value):
        raise ValueError("one scope token is allowed, without spaces, quotes or backslashes")
    return value


def _quotable(value: str) -> str:
    if not re.fullmatch(r"[\x20\x21\x23-\x5b\x5d-\x7e]+", value):
        raise ValueError("printable ASCII without quotes or backslashes is allowed")
    return value


def _store_url(value: SecretStr) -> SecretStr:
    parse_store_url(value.get_secret_value())
    return value


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError(
            'an address or network such as "10.0.0.0/8" is allowed, no host bits set'
        ) from None


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
]
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]
Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(format_size, return_type=str)]
HeaderSize = Annotated[Size, AfterValidator(_at_least(1024))]
Port = Annotated[int, BeforeValidator(_whole_number(0, 65535, "a port number"))]
Count = Annotated[int, BeforeValidator(_whole_number(1, _MOST, "a whole number"))]
FieldCount = Annotated[int, BeforeValidator(_whole_number(16, 10_000, "a whole number"))]
Workers = Annotated[int, BeforeValidator(_whole_number(1, 256, "a whole number"))]
Flag = StrictBool
Filename = Annotated[Path, BeforeValidator(_file)]
StoreUrl = Annotated[SecretStr, AfterValidator(_store_url)]
HttpUrl = Annotated[str, AfterValidator(_base_url)]
"""To which paths are appended."""
EndpointUrl = Annotated[str, AfterValidator(_http_url)]
"""To be asked as it is written: to some servers "/token/" isn't "/token"."""
UrlPath = Annotated[str, AfterValidator(_absolute_path)]
Method = Annotated[str, AfterValidator(_method)]
Origin = Annotated[str, AfterValidator(_origin)]
ScopeToken = Annotated[str, AfterValidator(_scope_token)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
Quotable = Annotated[str, AfterValidator(_quotable)]
Network = Annotated[str, AfterValidator(_network)]
