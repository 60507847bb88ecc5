"""The embedded key manager: an OAuth 2.0 authorization server for the demo and the tests.

It issues, refreshes, introspects and revokes tokens, and writes each access token into the
token store that the gateway reads, so that an issued token is accepted, and a revoked one
gone from the store, at once. Needs the ``demo`` extra (oauthlib, fakeredis); nothing of the
gateway but the commands imports it.
"""

from gateway.keymanager.app import create_app
from gateway.keymanager.config import Client, KeyManagerConfig, User
from gateway.keymanager.serve import run, serving
from gateway.keymanager.storage import Storage, open_storage

__all__ = [
    "Client",
    "KeyManagerConfig",
    "Storage",
    "User",
    "create_app",
    "open_storage",
    "run",
    "serving",
]
