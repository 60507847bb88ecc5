"""What is good: codes, refresh tokens and access tokens, issued, used, revoked, looked up.

oauthlib decides the order of the checks and the wire form of the answers; what it asks of
issued tokens is answered here, each change of state is made in ``storage``. The parameters it
sees were cut down to those the endpoint knows (``server``), so that a request can't smuggle in
a ``user`` or ``scopes`` that oauthlib would take for its own attributes.
"""

# ruff: noqa: ARG002 - oauthlib's interface hands over more than each answer needs

import json
from dataclasses import replace
from typing import Any

import structlog
from oauthlib.common import Request
from oauthlib.oauth2.rfc6749.errors import InvalidGrantError

from gateway.clock import Clock
from gateway.keymanager.config import KeyManagerConfig
from gateway.keymanager.credentials import Directory
from gateway.keymanager.documents import access_document, refresh_document
from gateway.keymanager.records import Code, Family, Issue, RefreshToken
from gateway.keymanager.registrations import Registrations
from gateway.keymanager.storage import Storage, new_family_id
from gateway.tokens import MalformedFacts, TokenKey, parse_facts, token_key

log = structlog.stdlib.get_logger(__name__)


class Validator(Registrations):
    """The key manager's answers; it holds no state of a request, so threads may share it.

    Everything that reads or writes what was issued raises ``StoreUnavailable``.
    """

    def __init__(
        self, config: KeyManagerConfig, directory: Directory, storage: Storage, clock: Clock
    ) -> None:
        super().__init__(directory)
        self._config = config
        self._storage = storage
        self._clock = clock

    # Authorization codes

    def save_authorization_code(
        self, client_id: str, code: Any, request: Request, *args: Any, **kwargs: Any
    ) -> None:
        """Store what the user allowed, under the digest of the code."""
        now_at = self._clock.wall()
        record = Code(
            client_id=client_id,
            username=str(request.user),
            scope=" ".join(request.scopes or ()),
            redirect_uri=str(request.redirect_uri),
            redirect_uri_given=not request.using_default_redirect_uri,
            code_challenge=str(request.code_challenge),
            exp=int(now_at) + self._config.code_expires_in,
        )
        self._storage.put_code(token_key(code["code"]), record, now_at=now_at)

    def validate_code(
        self, client_id: str, code: str, client: Any, request: Request, *args: Any, **kwargs: Any
    ) -> bool:
        """Whether the code is the client's and good; one used before revokes what it gave."""
        record = self._storage.code(token_key(code))
        if record is None or record.client_id != client_id:
            return False
        if record.family is not None:
            log.warning("authorization code replayed", client_id=client_id)
            self._storage.revoke_family(record.family)
            return False
        if not self._directory.has_user(record.username):
            return False
        request.user = record.username
        request.scopes = record.scope.split()
        request.validator_log["code"] = record
        return record.exp > self._clock.wall()

    def get_code_challenge(self, code: str, request: Request) -> str:
        """The PKCE challenge of the code (RFC 7636 §4.6)."""
        return _code(request).code_challenge

    def get_code_challenge_method(self, code: str, request: Request) -> str:
        """S256: no other was accepted."""
        return "S256"

    def confirm_redirect_uri(
        self,
        client_id: str,
        code: str,
        redirect_uri: str,
        client: Any,
        request: Request,
        *args: Any,
        **kwargs: Any,
    ) -> bool:
        """Whether the redirect URI is that of the authorization request (RFC 6749 §4.1.3).

        Raises:
            InvalidGrantError: it isn't; oauthlib's own answer, invalid_request, isn't §5.2's.
        """
        record = _code(request)
        given = not request.using_default_redirect_uri
        if redirect_uri != record.redirect_uri or (record.redirect_uri_given and not given):
            raise InvalidGrantError("redirect_uri isn't that of the authorization request.")
        return True

    def invalidate_authorization_code(
        self, client_id: str, code: str, request: Request, *args: Any, **kwargs: Any
    ) -> None:
        """Nothing: ``save_bearer_token`` uses the code and stores the tokens in one step."""

    # Refresh tokens

    def validate_refresh_token(
        self, refresh_token: str, client: Any, request: Request, *args: Any, **kwargs: Any
    ) -> bool:
        """Whether the token is the client's and good; one used before revokes its family."""
        key = token_key(refresh_token)
        found = self._storage.refresh_token(key)
        if found is None or found[0].client_id != client.client_id:
            return False
        token, family = found
        if token.exp <= self._clock.wall() or family is None:
            return False
        if family.current != key.hex():
            log.warning("refresh token replayed", client_id=client.client_id)
            self._storage.revoke_family(token.family)
            return False
        # Who may have what is asked anew: configuration may have changed since.
        scopes = [scope for scope in token.scope.split() if scope in client.scopes]
        gone = token.username is not None and not self._directory.has_user(token.username)
        if gone or not scopes:
            log.warning(
                "refresh token of a user or scope that is no more", client_id=client.client_id
            )
            self._storage.revoke_family(token.family)
            return False
        request.user = token.username
        request.validator_log["refresh_token"] = replace(token, scope=" ".join(scopes))
        return True

    def get_original_scopes(
        self, refresh_token: str, request: Request, *args: Any, **kwargs: Any
    ) -> list[str]:
        """What the user first granted: no refresh may go beyond (RFC 6749 §6)."""
        return _refresh_token(request).scope.split()

    # Issuing

    def save_bearer_token(self, token: Any, request: Request, *args: Any, **kwargs: Any) -> None:
        """Store what is about to be answered, using up what it was given for.

        Raises:
            InvalidGrantError: the code or refresh token was used since it was validated.
        """
        now_at = self._clock.wall()
        granted, done = token["scope"], True
        if request.grant_type == "authorization_code":
            issue = self._issue(token, request, new_family_id(), granted, int(now_at))
            done = self._storage.redeem(token_key(str(request.code)), issue, now_at=now_at)
        elif request.grant_type == "refresh_token":
            used = _refresh_token(request)
            # The new refresh token keeps the scope of the old one, however narrow the access
            # token is that was asked for: RFC 6749 §6.
            issue = self._issue(token, request, used.family, used.scope, int(now_at))
            done = self._storage.rotate(token_key(str(request.refresh_token)), issue, now_at=now_at)
        else:
            issue = self._issue(token, request, new_family_id(), granted, int(now_at))
            self._storage.issue(issue, now_at=now_at)
        if not done:
            log.warning("code or refresh token used meanwhile", client_id=request.client_id)
            raise InvalidGrantError(request=request)

    def _issue(self, token: Any, request: Request, family: str, granted: str, iat: int) -> Issue:
        client_id = str(request.client_id)
        document = access_document(
            client_id=client_id,
            username=request.user,
            scope=token["scope"],
            iat=iat,
            exp=iat + int(token["expires_in"]),
        )
        access_key, refresh = token_key(token["access_token"]), token.get("refresh_token")
        if refresh is None:
            return Issue(access_key, document, family)
        exp = iat + self._config.refresh_token_expires_in
        record = RefreshToken(family, client_id, request.user, granted, iat, exp)
        return Issue(access_key, document, family, token_key(refresh), record)

    # Revocation and introspection

    def revoke_token(
        self, token: str, token_type_hint: str, request: Request, *args: Any, **kwargs: Any
    ) -> None:
        """End an access token, or with a refresh token its whole grant (RFC 7009 §2.1).

        The hint isn't needed: a digest is found under one kind only. A refresh token that was
        used before ends its grant too.

        Raises:
            InvalidGrantError: the token is another client's. It must not be a 200: a gateway
                takes that for "revoked", and would drop the token.
        """
        if self.end_token(token, owner=str(request.client_id)) is None:
            raise InvalidGrantError("The token was issued to another client.")

    def end_token(self, token: str, *, owner: str | None = None) -> bool | None:
        """End a token, or with a refresh token its grant; return whether there was one.

        ``None`` says that it isn't ``owner``'s, and nothing was done.
        """
        key = token_key(token)
        document = self._access_document(key)
        found = self._storage.refresh_token(key)
        owners = {document.get("client_id")} if document else set()
        owners |= {found[0].client_id} if found else set()
        if owner is not None and owners - {owner}:
            return None
        if document:
            self._storage.delete_access_token(key)
        if found:
            self._storage.revoke_family(found[0].family)
        return bool(owners)

    # Grants, for users and administrators

    def grants(self, username: str) -> list[tuple[str, Family]]:
        """Return a user's live grants and their names, the one used last first."""
        return self._storage.families(now_at=self._clock.wall(), username=username)

    def end_grants(
        self,
        *,
        username: str | None = None,
        client_id: str | None = None,
        family_id: str | None = None,
    ) -> int:
        """End the grants of a user, of a client, or of a user with a client; return how many.

        ``family_id`` names one of them.
        """
        families = self._storage.families(
            now_at=self._clock.wall(), username=username, client_id=client_id
        )
        ended = [name for name, _ in families if family_id in {None, name}]
        for name in ended:
            self._storage.revoke_family(name)
        return len(ended)

    def introspect_token(
        self, token: str, token_type_hint: str, request: Request, *args: Any, **kwargs: Any
    ) -> dict[str, Any] | None:
        """Return the claims of a good token, ``None`` for any other (RFC 7662 §2.2).

        Any confidential client may ask about any access token, as a resource server does;
        about a refresh token only the client that has it.
        """
        key = token_key(token)
        document = self._access_document(key)
        if document:
            return document
        found = self._storage.refresh_token(key)
        if found is None or found[0].client_id != request.client_id:
            return None
        refresh, family = found
        if refresh.exp <= self._clock.wall() or family is None or family.current != key.hex():
            return None
        return refresh_document(refresh)

    def access_claims(self, token: str) -> dict[str, Any] | None:
        """Return the document of an access token that is good now."""
        return self._access_document(token_key(token))

    def _access_document(self, key: TokenKey) -> dict[str, Any] | None:
        document = self._storage.access_document(key)
        if document is None:
            return None
        try:
            facts = parse_facts(document, now_at=self._clock.wall())
        except MalformedFacts:
            return None
        members: dict[str, Any] = json.loads(document)
        return members if facts.active else None


class ConfidentialClientsOnly(Validator):
    """The same for ``/introspect``: without a secret anyone could try tokens (RFC 7662 §2.1)."""

    def client_authentication_required(self, request: Request, *args: Any, **kwargs: Any) -> bool:
        """Yes."""
        return True


def _code(request: Request) -> Code:
    # oauthlib's place for what a validation found, on its way to the later steps.
    code: Code = request.validator_log["code"]
    return code


def _refresh_token(request: Request) -> RefreshToken:
    token: RefreshToken = request.validator_log["refresh_token"]
    return token
