"""Who may ask the admin API, judged by what a request says of itself.

On loopback the operator's own browser is the danger: any page in it can send requests to
127.0.0.1, under a name of its own too (DNS rebinding). So the request must come from the page of
this port, or from no page, under a name of this machine. Beyond loopback a token is needed for
everything, which no other page has.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from gateway.settings import Admin

NO_TOKEN = "Set admin.token to allow calls that change something."  # noqa: S105 -- a message
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="gateway admin"'}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused; ``headers`` go with the answer."""

    status: int
    code: str
    description: str
    headers: Sequence[tuple[str, str]] = ()


class Access:
    """The rules of the settings' section ``admin``."""

    def __init__(self, admin: Admin) -> None:
        self._on_loopback = admin.on_loopback
        self._hosts = {_bare(host) for host in (admin.host, *admin.hosts)}
        self._token = None if admin.token is None else admin.token.get_secret_value().encode()

    def judge(self, headers: Mapping[str, str], *, changing: bool) -> Refusal | None:
        """Return why a call of the API is refused, or ``None``.

        ``headers`` by any case; ``changing`` calls need a token wherever they come from.
        """
        return (
            self.judge_host(headers.get("Host", ""))
            or _judge_origin(headers)
            or self._judge_token(headers.get("Authorization", ""), changing=changing)
        )

    def judge_host(self, host: str) -> Refusal | None:
        """Return why nothing is told to those who ask under a name, or ``None``.

        On loopback it must be this machine's: a page whose name was rebound to 127.0.0.1 would
        read even the metrics.
        """
        if not self._on_loopback:
            return None  # whatever the port is called there, a token is needed
        name = _bare(_host_name(host))
        if name in self._hosts or _is_loopback(name):
            return None
        return Refusal(421, "misdirected_request", "This port isn't asked under that name.")

    def _judge_token(self, authorization: str, *, changing: bool) -> Refusal | None:
        if self._on_loopback and not changing:
            return None
        if self._token is None:
            return Refusal(403, "forbidden", NO_TOKEN)
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return _unauthorized("Authorization: Bearer with admin.token is needed.")
        if not hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token):
            return _unauthorized("That isn't admin.token.")
        return None


def _unauthorized(description: str) -> Refusal:
    return Refusal(401, "unauthorized", description, tuple(CHALLENGE.items()))


def _judge_origin(headers: Mapping[str, str]) -> Refusal | None:
    """Refuse what another origin's page asks for, as far as browsers tell (Fetch §3.2)."""
    origin = headers.get("Origin")
    site = headers.get("Sec-Fetch-Site", "none")
    # A TLS proxy before the port changes the scheme, so that isn't compared.
    foreign = origin is not None and _authority(origin) != headers.get("Host", "")
    if foreign or site not in {"none", "same-origin"}:
        return Refusal(403, "forbidden", "Pages of other origins may not ask this port.")
    return None


def _authority(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


def _host_name(host: str) -> str:
    """Return a Host header's name, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _bare(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
