"""The embedded key manager: an OAuth 2.0 authorization server for the demo and the tests.

It issues, refreshes, introspects and revokes tokens, on a page for users and by a call for
administrators too. Into the token store that the gateway reads it writes each access token
itself, or, for a gateway that records tokens, only which of them have ended. Needs the ``demo``
extra (oauthlib, fakeredis); nothing of the gateway but the commands imports it.
"""

from gateway.keymanager.addresses import LOOPBACK
from gateway.keymanager.app import create_app
from gateway.keymanager.config import GRANT_TYPES, Client, KeyManagerConfig, User
from gateway.keymanager.serve import run, serving
from gateway.keymanager.storage import Storage, open_storage

__all__ = [
    "GRANT_TYPES",
    "LOOPBACK",
    "Client",
    "KeyManagerConfig",
    "Storage",
    "User",
    "create_app",
    "open_storage",
    "run",
    "serving",
]
