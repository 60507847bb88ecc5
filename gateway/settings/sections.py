"""The sections of the settings: every setting is a field here, with its default and meaning.

``config/gateway.toml`` lists them all. Instances are immutable: a reload builds new ones.
"""

from datetime import timedelta
from ipaddress import ip_address
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from gateway.settings.store_url import parse_store_url
from gateway.settings.types import (
    Conflict,
    Count,
    Duration,
    EndpointUrl,
    FieldCount,
    Filename,
    Flag,
    HeaderName,
    HeaderSize,
    HttpUrl,
    Method,
    Network,
    Origin,
    Place,
    Port,
    PositiveDuration,
    Quotable,
    ScopeToken,
    Size,
    StoreUrl,
    UrlPath,
    Workers,
    same_path,
)


def _minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def _seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


class Section(BaseModel):
    """A table of the settings file."""

    # A fault's report is ours (faults.py): pydantic's own would quote secrets.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Listen(Section):
    """Where clients connect."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: Port = Field(8080, description="Port; 0 takes a free one.")
    tls_port: Port | None = Field(
        None,
        description="A second port, for TLS. Without it and with a certificate, port speaks TLS.",
    )
    tls_certificate: Filename | None = Field(None, description="PEM file: certificate and chain.")
    tls_key: Filename | None = Field(None, description="PEM file: private key.")
    backlog: Count = Field(1024, description="Connections that may wait to be accepted.")
    workers: Workers = Field(
        1,
        description="Processes that serve the ports. Caches, connections and limits are each "
        "one's own.",
    )
    event_loop: Literal["auto", "asyncio", "uvloop"] = Field(
        "auto",
        description='What a process that serves runs on: "auto" is uvloop where it is installed.',
    )
    drain_grace: Duration = Field(
        _seconds(5),
        description="After SIGTERM, how long to go on accepting while readiness fails.",
    )
    drain_timeout: PositiveDuration = Field(
        _seconds(30),
        description="After that, how long requests in flight may take to finish.",
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> "Listen":
        if self.tls_certificate is not None and self.tls_key is None:
            raise Conflict((("tls_certificate",), "allowed only together with listen.tls_key"))
        if self.tls_key is not None and self.tls_certificate is None:
            raise Conflict((("tls_key",), "allowed only together with listen.tls_certificate"))
        if self.tls_port is not None and self.tls_certificate is None:
            needed = "listen.tls_certificate and listen.tls_key"
            raise Conflict((("tls_port",), f"allowed only together with {needed}"))
        if self.tls_port is not None and self.tls_port == self.port != 0:
            raise Conflict((("tls_port",), "another port than listen.port is allowed"))
        return self


class Admin(Section):
    """The second port: health, metrics, the admin API, the live page. Keep it away from clients."""

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on. Beyond loopback, admin.token is needed.",
    )
    port: Port = Field(9090, description="Port; 0 takes a free one.")
    hosts: tuple[str, ...] = Field(
        (),
        description="Names and addresses under which the API and the page may be asked on "
        "loopback, besides loopback's own and host: those of a reverse proxy before the port.",
    )
    token: SecretStr | None = Field(
        None,
        min_length=1,
        description="The bearer token of the admin API. Without it nothing can be evicted.",
    )

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine reaches the port."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


class KeyManager(Section):
    """The OAuth 2.0 authorization server to which /token and /revoke are forwarded."""

    url: HttpUrl | None = Field(
        None,
        description="Base URL; /token and /revoke are appended. Without it neither is served.",
    )
    token_path: UrlPath = Field("/token", description="Where clients find the token endpoint.")
    revoke_path: UrlPath = Field(
        "/revoke", description="Where clients find the revocation endpoint."
    )
    token_url: EndpointUrl | None = Field(
        None, description="The token endpoint, if it isn't url/token."
    )
    revoke_url: EndpointUrl | None = Field(
        None, description="The revocation endpoint, if it isn't url/revoke."
    )
    connect_timeout: PositiveDuration = Field(_seconds(5), description="Longest time to connect.")
    read_timeout: PositiveDuration = Field(
        _seconds(30), description="Longest time to wait for the answer."
    )
    idle_timeout: Duration = Field(
        _seconds(0),
        description="How long an idle connection is kept. A request that is sent just as the key "
        "manager closes one is lost: it can't be sent again. 0s keeps none.",
    )
    ca_file: Filename | None = Field(
        None, description="PEM file with the authorities to trust instead of the system's."
    )
    record_tokens: Flag = Field(
        True,
        description="Write the access tokens that pass through /token into the store. "
        "Off for a key manager that writes the store itself.",
    )
    any_client_revokes: Flag = Field(
        False,
        description="The key manager lets a client revoke tokens that were issued to another, an "
        "administrator's for instance. Without it such a token stays, whatever the answer.",
    )
    default_expires_in: PositiveDuration = Field(
        _minutes(60), description="Life of a token issued without expires_in."
    )
    omitted_scope: Literal["none", "as_requested"] = Field(
        "none",
        description="What an answer of the token endpoint without scope grants: nothing, or what "
        "the request asked for (RFC 6749 §5.1).",
    )
    basic_client_id: Literal["unambiguous", "form_encoded", "verbatim"] = Field(
        "unambiguous",
        description="How the key manager reads the client's name in HTTP Basic: form-encoded "
        "(RFC 6749 §2.3.1) or as it stands. unambiguous: where both differ and it can't be seen "
        "which it is, no client is recorded.",
    )

    @property
    def token_endpoint(self) -> str | None:
        """The URL that token requests are forwarded to."""
        return self.token_url or (self.url and f"{self.url}/token")

    @property
    def revoke_endpoint(self) -> str | None:
        """The URL that revocations are forwarded to."""
        return self.revoke_url or (self.url and f"{self.url}/revoke")

    @model_validator(mode="after")
    def _paths_differ(self) -> "KeyManager":
        if same_path(self.token_path) == same_path(self.revoke_path):
            raise Conflict((("revoke_path",), "another path than token_path is allowed"))
        return self


class Store(Section):
    """The token store: what is true now."""

    url: StoreUrl = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="redis://, rediss://, unix://, redis+sentinel://host,host/service/db, "
        "redis+cluster://host,host (rediss+… with TLS), or memory://.",
    )
    username: str | None = Field(None, description="Redis user, where the URL has none.")
    password: SecretStr | None = Field(None, description="Redis password, where the URL has none.")
    ca_file: Filename | None = Field(
        None, description="PEM file with the authorities to trust for TLS."
    )
    tls_certificate: Filename | None = Field(
        None, description="PEM file: the gateway's certificate, where Redis asks for one."
    )
    tls_key: Filename | None = Field(None, description="PEM file: that certificate's key.")
    key_prefix: str = Field("token:", description="What stands before the digest in a key.")
    connect_timeout: PositiveDuration = Field(_seconds(1), description="Longest time to connect.")
    timeout: PositiveDuration = Field(
        timedelta(milliseconds=500), description="Longest time that a request waits for the store."
    )
    max_connections: Count = Field(32, description="Connections to each Redis server.")
    max_batch: Count = Field(128, description="Most tokens looked up by one command.")

    @model_validator(mode="after")
    def _url_agrees(self) -> "Store":
        url = parse_store_url(self.url.get_secret_value())
        faults: list[tuple[Place, str]] = []
        if self.username is not None and url.username is not None:
            faults.append((("username",), "allowed only where store.url has no user"))
        if self.password is not None and url.password is not None:
            faults.append((("password",), "allowed only where store.url has no password"))
        if self.ca_file is not None and not url.tls:
            faults.append((("ca_file",), "allowed only where store.url is one with TLS (rediss)"))
        if self.tls_certificate is not None and not url.tls:
            only = "allowed only where store.url is one with TLS (rediss)"
            faults.append((("tls_certificate",), only))
        if (self.tls_certificate is None) != (self.tls_key is None):
            faults.append((("tls_certificate",), "allowed only together with store.tls_key"))
        if faults:
            raise Conflict(*faults)
        return self


class Cache(Section):
    """How long the gateway relies on what it knows. This is the revocation window."""

    max_age: Duration = Field(
        _minutes(15),
        description="How old a token's facts may be, counted from their validation. A revoked "
        "token is accepted no longer than this.",
    )
    negative_max_age: Duration = Field(
        _seconds(1), description="How long an unknown token stays unknown without asking again."
    )
    stale_if_error: Duration = Field(
        _seconds(0),
        description="While the store is down, how much longer facts may serve (RFC 5861). "
        "It widens the window by as much.",
    )
    max_entries: Count = Field(100_000, description="Tokens in the cache, about 320 bytes each.")
    negative_max_entries: Count = Field(10_000, description="Unknown tokens in their own cache.")


class Revocation(Section):
    """What a revocation does to what the gateway has cached, and how it comes to know of one."""

    on_revoke: Literal["lapse", "evict"] = Field(
        "lapse",
        description="lapse: a revoked token's facts serve until their max age; revocations are "
        "only observed. evict: they are removed at once, in every gateway.",
    )
    feed: Flag = Field(True, description="Listen to the store for revocations, whoever makes them.")
    feed_ping_interval: PositiveDuration = Field(
        _seconds(1),
        description="How often the feed's connection is tested: one that is dead without saying "
        "so is noticed within this and store.timeout.",
    )
    feed_down_max_age: Duration = Field(
        _seconds(1),
        description="With evict, how old facts may be while the feed is down.",
    )
    revoke_on_refresh: Flag = Field(
        False,
        description="A refresh through /token also revokes the grant's earlier access tokens. "
        "Needs key_manager.record_tokens.",
    )
    revoke_on_replay: Flag = Field(
        False,
        description="A refresh token that was replaced, used again by its client and refused as "
        "invalid_grant, ends its grant's access tokens: for a key manager that ends the grant "
        "then (RFC 9700 §4.14.2). Needs key_manager.record_tokens.",
    )

    @model_validator(mode="after")
    def _evict_needs_the_feed(self) -> "Revocation":
        if self.on_revoke == "evict" and not self.feed:
            raise Conflict(
                (("on_revoke",), '"evict" is allowed only where revocation.feed is true')
            )
        return self


class RouteSettings(Section):
    """A part of the path space, where it goes, and what it takes to get there."""

    path: UrlPath = Field(description="Prefix, at a segment boundary; the longest one wins.")
    upstream: HttpUrl = Field(description="Base URL of the backend.")
    name: str | None = Field(
        None, min_length=1, description="Label in metrics and logs; the path by default."
    )
    scopes: tuple[ScopeToken, ...] = Field(
        (), description="Scopes that a token must have, all of them."
    )
    methods: tuple[Method, ...] = Field(
        (), description="Methods that the route takes; all registered ones when empty."
    )
    max_age: Duration | None = Field(
        None, description='Tightens cache.max_age here. "0s" asks the store every time.'
    )
    strip_prefix: Flag = Field(False, description="Forward the path without the prefix.")
    public: Flag = Field(False, description="No token needed, and none looked at.")
    cors_origins: tuple[Origin, ...] = Field(
        (),
        description="Origins whose pages may read the gateway's own answers here, such as 401, and "
        "whose preflights are answered.",
    )
    cors_credentials: Flag = Field(
        False, description="Those pages may send cookies and other credentials of the browser's."
    )

    @model_validator(mode="after")
    def _public_asks_nothing(self) -> "RouteSettings":
        if self.public and self.scopes:
            raise Conflict((("scopes",), "allowed only where public is false"))
        if self.public and self.max_age is not None:
            raise Conflict((("max_age",), "allowed only where public is false"))
        return self

    @model_validator(mode="after")
    def _credentials_are_for_some(self) -> "RouteSettings":
        if self.cors_credentials and (not self.cors_origins or "*" in self.cors_origins):
            needed = 'allowed only where cors_origins names origins, and not "*"'
            raise Conflict((("cors_credentials",), needed))
        if "*" in self.cors_origins and len(self.cors_origins) > 1:
            raise Conflict((("cors_origins",), '"*" is allowed only alone'))
        return self

    @property
    def label(self) -> str:
        """What metrics and logs call the route."""
        return self.name or self.path


class Proxy(Section):
    """What crosses the gateway, and how."""

    trusted_proxies: tuple[Network, ...] = Field(
        (), description="Networks whose X-Forwarded-* headers are kept and appended to."
    )
    identity_prefix: HeaderName = Field(
        "X-Token-",
        min_length=1,
        description="Headers for the backend: <prefix>Client-Id, <prefix>Subject, "
        "<prefix>Username, <prefix>Scope. "
        "A client's own headers with this prefix never reach it.",
    )
    forward_authorization: Flag = Field(False, description="Let the backend see the bearer token.")
    preserve_host: Flag = Field(True, description="Forward the client's Host, not the upstream's.")
    headers_with_underscores: Literal["refuse", "drop", "allow"] = Field(
        "refuse",
        description="What to do with header names like X_Forwarded_For, which many backends "
        "take for X-Forwarded-For.",
    )
    realm: Quotable = Field("gateway", description="The realm in WWW-Authenticate challenges.")
    via: HeaderName = Field("gateway", description="The gateway's name in Via headers.")
    ca_file: Filename | None = Field(
        None, description="PEM file with the authorities to trust for https upstreams."
    )
    accept_incomplete_close: Flag = Field(
        False,
        description="Take an answer without a length, from an https upstream that closes without "
        "a closure alert, for whole.",
    )
    fast_lane: Flag = Field(
        True,
        description="Answer simple requests without a task of their own; false for debugging.",
    )


class Limits(Section):
    """How much, how long, how many."""

    body: Size = Field(
        10 * 2**20,
        description="Largest request body. 0B refuses any body; /token and /revoke take 1MiB at "
        "most.",
    )
    headers: HeaderSize = Field(
        16 * 2**10, description="Largest header section, request line included."
    )
    header_fields: FieldCount = Field(
        128, description="Most header fields of a request, and of an upstream's answer."
    )
    header_timeout: PositiveDuration = Field(
        _seconds(10), description="Longest time for a header section to arrive."
    )
    body_timeout: PositiveDuration = Field(
        _seconds(30), description="Longest silence within a request body."
    )
    idle_timeout: PositiveDuration = Field(
        _seconds(75), description="How long an idle keep-alive connection stays open."
    )
    connect_timeout: PositiveDuration = Field(
        _seconds(5), description="Longest time to connect to an upstream."
    )
    read_timeout: PositiveDuration = Field(
        _seconds(60), description="Longest silence of an upstream, before and within its answer."
    )
    write_timeout: PositiveDuration = Field(
        _seconds(60), description="Longest time that a client may leave an answer unread."
    )
    upstream_idle_timeout: PositiveDuration = Field(
        _seconds(4),
        description="How long an idle connection to an upstream is kept: less than the upstream "
        "keeps it, which is 5 s for many.",
    )
    revalidate_streams: Duration = Field(
        _seconds(0),
        description="How often a WebSocket's or a long answer's token is looked at again; the "
        'exchange is cut off when it is no longer good. "0s": never.',
    )
    websocket_message: Size = Field(
        0,
        description="Largest WebSocket message, either way; one that is larger is closed with "
        "1009. 0B: any size, as messages are never held.",
    )
    connections: Count = Field(10_000, description="Client connections at a time.")
    upstream_connections: Count = Field(
        1_000, description="Connections to all upstreams at a time."
    )


class Logging(Section):
    """What is logged, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least.")
    format: Literal["json", "console"] = Field("json", description="json, or console for people.")
    access_log: Flag = Field(True, description="A line for each request.")
