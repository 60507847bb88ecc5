"""The token and revocation endpoints: forwarded to the key manager, and what comes of it.

The key manager judges these requests, and what it says goes to the client byte for byte. The
gateway takes from a success what the token store has to know, and nothing is sent twice: an
answer that got lost may have replaced a refresh token (RFC 6749 §6).
"""

import asyncio
from dataclasses import replace

import structlog
from aiohttp import ClientSession
from yarl import URL

from gateway.client_authentication import NOBODY, RequestClient, request_client
from gateway.clock import Clock
from gateway.errors import BadRequest, GatewayError, MethodNotAllowed, UpstreamInvalid
from gateway.exchange import Exchange, RelayedResponse, RequestBody
from gateway.fields import Fields
from gateway.grants import Grant
from gateway.headers import HeaderPolicy, client_response, upstream_request
from gateway.issued import Issued, read_issued
from gateway.metrics import Metrics
from gateway.oauth_forms import read_form
from gateway.oauth_messages import (
    ACCESS_TOKEN_FIELDS,
    REFRESH_TOKEN_FIELDS,
    WITHHELD_FIELDS,
    Answer,
    Parameters,
    missing_no_store,
    one,
)
from gateway.recording import Recorder
from gateway.routes import without_parameters
from gateway.seldom import Seldom
from gateway.settings import KeyManager, Limits
from gateway.settings.types import same_path
from gateway.token_request import undoubted
from gateway.token_response import Unrecorded, is_invalid_grant
from gateway.tokens import token_key
from gateway.upstream import origin, outgoing, upstream_errors

log = structlog.stdlib.get_logger(__name__)

MOST_BYTES = 2**20
"""The largest request and answer: they are held in memory, and no form or token response of
these endpoints comes near."""

_SETTING_FOR = {
    "omitted": "key_manager.omitted_scope",
    "two_readings": "key_manager.basic_client_id",
}
"""What tells the gateway how its key manager means what it leaves open."""


class OAuthEndpoints:
    """Answers requests to the token and revocation endpoints.

    ``session`` must not retry, and ``recorder`` outlives this: a reload of the settings makes new
    endpoints, with the same recorder.
    """

    def __init__(
        self,
        settings: KeyManager,
        *,
        session: ClientSession,
        recorder: Recorder,
        metrics: Metrics,
        clock: Clock,
        limits: Limits,
        policy: HeaderPolicy,
        revokes_on_replay: bool = False,
    ) -> None:
        self._revokes_on_replay = revokes_on_replay
        self._settings = settings
        self._session = session
        self._recorder = recorder
        self._metrics = metrics
        self._clock = clock
        self._most_body = min(limits.body, MOST_BYTES)
        self._body_timeout_seconds = limits.body_timeout.total_seconds()
        # The client's credentials are for the key manager, and its name is the one in its URL: it
        # may share an address with others. The client's Host is in X-Forwarded-Host.
        self._policy = replace(policy, forward_authorization=True, preserve_host=False)
        self._timeout_seconds = (settings.connect_timeout + settings.read_timeout).total_seconds()
        self._urls = {"token": settings.token_endpoint, "revoke": settings.revoke_endpoint}
        paths = {"token": settings.token_path, "revoke": settings.revoke_path}
        self._endpoints = {
            same_path(paths[name]): name for name, url in self._urls.items() if url is not None
        }
        self._under_way: set[asyncio.Task[RelayedResponse]] = set()
        self._each_second = Seldom(1.0, clock.monotonic)
        self._each_minute = Seldom(60.0, clock.monotonic)

    def endpoint(self, path: str, method: str) -> str | None:
        """Return which endpoint a judged path is, "token" or "revoke", if it is one.

        Raises:
            BadRequest: it is one but for path parameters ("/revoke;v=1"), which servlets leave out,
                or, of a POST, for what other frameworks leave out at the end: a format
                ("/revoke.json"), full stops, space.
        """
        known_as = same_path(path)
        name = self._endpoints.get(known_as)
        if name is None and (
            (";" in path and same_path(without_parameters(path)) in self._endpoints)
            or (method == "POST" and self._begins_as_endpoint(known_as))
        ):
            raise BadRequest("The path could be read as that of an endpoint.")
        return name

    def _begins_as_endpoint(self, path: str) -> bool:
        for endpoint in self._endpoints:
            if path.startswith(endpoint):
                rest = path[len(endpoint) :].lstrip("/")
                if rest.startswith((".", " ")) and "/" not in rest:
                    return True
        return False

    async def answer(self, endpoint: str, exchange: Exchange) -> RelayedResponse:
        """Forward a request and return the key manager's answer.

        What has been sent is brought to its end even if the client goes away: the key manager may
        have issued or revoked a token for it.

        Raises:
            MethodNotAllowed: neither POST (RFC 6749 §3.2, RFC 7009 §2.1) nor OPTIONS, the CORS
                preflight, which the key manager judges too.
            ContentTooLarge, RequestTimeout: the request's body didn't arrive as it should.
            UnsupportedMediaType, InvalidRequest: the gateway couldn't act upon it.
            UpstreamUnreachable, UpstreamTimeout, UpstreamInvalid: there is no answer to pass on.
            StoreUnavailable: the key manager has revoked a token that is still in the store.
        """
        exchange.route = endpoint
        if exchange.request.method not in {"POST", "OPTIONS"}:
            raise MethodNotAllowed(
                "The endpoint takes POST only.", headers=[("Allow", "POST, OPTIONS")]
            )
        assert exchange.head is not None
        body = await RequestBody(
            exchange.request,
            exchange.head,
            most=self._most_body,
            timeout_seconds=self._body_timeout_seconds,
            holds=exchange.holds,
        ).read()
        parameters, client = self._read_request(endpoint, exchange, body)
        task = asyncio.create_task(self._forward(endpoint, exchange, body, parameters, client))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        try:
            await asyncio.wait([task])  # which doesn't cancel it
        except asyncio.CancelledError:
            task.add_done_callback(_note_unheard)
            raise
        return task.result()

    async def close(self, *, timeout_seconds: float = 5.0) -> None:
        """Wait for the exchanges whose clients have gone, then give them up."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=timeout_seconds)
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _read_request(
        self, endpoint: str, exchange: Exchange, body: bytes
    ) -> tuple[Parameters, RequestClient]:
        """Return what a request says, and which client it authenticates as, before it is forwarded.

        What can't be acted upon is refused.
        """
        if exchange.request.method != "POST":
            return {}, NOBODY
        head, target = exchange.head, exchange.target
        assert head is not None
        assert target is not None
        try:
            parameters = read_form(endpoint, head, target.query, body)
            if endpoint == "token":
                parameters = undoubted(parameters, target.query)
            client = request_client(
                head.authorizations, parameters, basic_client_id=self._settings.basic_client_id
            )
        except GatewayError:
            if endpoint == "revoke" or self._settings.record_tokens:
                raise
            return {}, NOBODY  # nothing is done with a token request
        return parameters, client

    async def _forward(
        self,
        endpoint: str,
        exchange: Exchange,
        body: bytes,
        parameters: Parameters,
        client: RequestClient,
    ) -> RelayedResponse:
        sent_at = self._clock.wall()
        answer = await self._ask(endpoint, exchange, body)
        if 300 <= answer.status < 400:
            # The client would have to send its credentials elsewhere; no OAuth client does.
            log.warning(
                "the key manager redirects an endpoint: its URL in the settings is another's",
                endpoint=endpoint,
                status=answer.status,
            )
        if exchange.request.method == "POST" and 200 <= answer.status < 300:
            exchange.client_id = client.client_id
            if endpoint == "revoke":
                await self._revoke(answer, parameters, client)
            else:
                await self._record(answer, parameters, client, sent_at)
        elif endpoint == "token" and self._revokes_on_replay and is_invalid_grant(answer):
            await self._end_replayed(parameters, client)
        return self._relay(endpoint, exchange, answer)

    async def _ask(self, endpoint: str, exchange: Exchange, body: bytes) -> Answer:
        assert exchange.target is not None
        query = exchange.target.query
        url = f"{self._urls[endpoint]}" + ("" if query is None else f"?{query}")
        exchange.upstream = origin(url)
        with upstream_errors():
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._session.request(
                    exchange.request.method,
                    URL(url, encoded=True),
                    headers=outgoing(self._fields(exchange), url),
                    data=body or None,
                    allow_redirects=False,
                ) as response,
            ):
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > MOST_BYTES:
                        break
                if response.status < 200 or len(content) > MOST_BYTES:
                    response.close()
                    raise UpstreamInvalid(
                        "The key manager's answer can not be passed on.", cause="too_large"
                    )
                return Answer(
                    response.status, response.reason or "", response.raw_headers, bytes(content)
                )

    def _fields(self, exchange: Exchange) -> Fields:
        assert exchange.head is not None
        fields = upstream_request(
            exchange.head,
            policy=self._policy,
            peer=exchange.peer,
            scheme_name=exchange.scheme,
            request_id=exchange.request_id,
            facts=None,
        )
        # The gateway has to read the answer; and it is sent with the length that the body has.
        replaced = {b"accept-encoding", b"content-length"}
        fields = [(name, value) for name, value in fields if name.lower() not in replaced]
        return [*fields, (b"Accept-Encoding", b"identity")]

    async def _record(
        self, answer: Answer, parameters: Parameters, client: RequestClient, sent_at: float
    ) -> None:
        """Bring what was issued into the store. Never fails: the client must get its tokens."""
        try:
            issued = None
            if self._settings.record_tokens:
                issued = self._read(answer, parameters, client, sent_at)
            # A refresh token that was replaced ends alone; its grant goes on. And what is issued
            # hasn't ended, whatever the fields say.
            ended = answer.named_tokens(ACCESS_TOKEN_FIELDS)
            if issued is not None:
                ended = [key for key in ended if key != issued.key]
            if ended:
                await self._recorder.deactivate(ended)
            if issued is not None:
                await self._recorder.record(issued)
        except Exception as error:  # noqa: BLE001 -- see above
            # Without its message and traceback: either could quote the answer.
            self._metrics.token_recorded("lost")
            log.error("issued token not recorded", why=type(error).__name__)  # noqa: TRY400

    def _read(
        self, answer: Answer, parameters: Parameters, client: RequestClient, sent_at: float
    ) -> Issued | None:
        try:
            issued = read_issued(
                answer,
                parameters=parameters,
                client=client,
                now_at=sent_at,
                default_expires_in_seconds=self._settings.default_expires_in.total_seconds(),
                omitted_scope=self._settings.omitted_scope,
            )
        except Unrecorded as fault:
            self._metrics.token_unrecorded(fault.reason)
            if self._each_second.due(fault.reason):
                log.warning(
                    "issued token not recorded: the gateway refuses it",
                    reason=fault.reason,
                    fault=str(fault),
                    held_back=self._each_second.held_back(fault.reason),
                )
            return None
        self._note_missing(issued)
        return issued

    def _note_missing(self, issued: Issued) -> None:
        """Say what a token is recorded without because its key manager left it open."""
        missing: dict[str, str] = {}
        if issued.used_refresh_key is None and issued.completed(Grant()).scope is None:
            missing["scope"] = "omitted"  # a refresh has the scope of its grant
        if issued.client_doubt is not None:
            missing["client_id"] = issued.client_doubt
        for member, reason in missing.items():
            self._metrics.token_recorded_without(member, reason)
            if self._each_minute.due(reason):
                log.warning(
                    "token recorded without a member that the key manager left open",
                    member=member,
                    reason=reason,
                    setting=_SETTING_FOR.get(reason),
                    held_back=self._each_minute.held_back(reason),
                )

    async def _revoke(self, answer: Answer, parameters: Parameters, client: RequestClient) -> None:
        """End in the store what was revoked; raises ``StoreUnavailable``."""
        keys = [token_key(token) for token in parameters.get("token", ())]
        named = answer.named_tokens(ACCESS_TOKEN_FIELDS | REFRESH_TOKEN_FIELDS)
        by = frozenset() if self._settings.any_client_revokes else client.may_be
        await self._recorder.revoke(keys, by=by, named=list(dict.fromkeys(named)))

    async def _end_replayed(self, parameters: Parameters, client: RequestClient) -> None:
        """End the grant of a refresh token that was refused, should it have been replaced before.

        The key manager doesn't say why it refuses: of what it doesn't know, the gateway takes a
        refresh token that it saw replaced, used by the client of its grant, for a replay.
        """
        refresh_token = one(parameters, "refresh_token")
        if one(parameters, "grant_type") == "refresh_token" and refresh_token is not None:
            await self._recorder.replayed(token_key(refresh_token), by=client.readings)

    def _relay(self, endpoint: str, exchange: Exchange, answer: Answer) -> RelayedResponse:
        fields = [
            (name, value)
            for name, value in client_response(
                answer.headers,
                request_id=exchange.request_id,
                date=exchange.date,
                status=answer.status,
            )
            if name.lower() not in WITHHELD_FIELDS
        ]
        succeeded = exchange.request.method == "POST" and 200 <= answer.status < 300
        if endpoint == "token" and succeeded:
            fields += missing_no_store(answer)
        response = RelayedResponse(answer.status, answer.reason, fields, body=answer.content)
        if exchange.closes:
            response.force_close()
        return response


def _note_unheard(task: asyncio.Task[RelayedResponse]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.warning("exchange failed after its client had gone", error=type(error).__name__)
