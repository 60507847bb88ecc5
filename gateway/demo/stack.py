"""The parts of the demo, each made once: backend, key manager, store, gateway."""

import base64
import math
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import fakeredis

from gateway.app import Gateway
from gateway.clock import Clock, SystemClock
from gateway.demo import DemoOptions
from gateway.demo.backend import serving_backend
from gateway.demo.certificate import CertificateFiles, write_certificate
from gateway.keymanager import (
    Client,
    KeyManagerConfig,
    Storage,
    User,
    create_app,
    open_storage,
    serving,
)
from gateway.settings import Settings, load_settings
from gateway.settings import Store as StoreSettings
from gateway.store import TokenStore, open_store

CLIENT_ID = "demo-key"
CLIENT_SECRET = "demo-secret"  # noqa: S105 -- the demo prints it
ONCE_ID = "demo-once"
ONCE_SECRET = "once-secret"  # noqa: S105 -- as above
"""A client that gets no refresh tokens: issuing them is optional."""
ADMIN_NAME = "root"
ADMIN_PASSWORD = "over-all"  # noqa: S105 -- as above
"""Who may end anyone's grants at the key manager."""


def _basic(name: str, secret: str) -> str:
    return base64.b64encode(f"{name}:{secret}".encode()).decode()


BASIC = _basic(CLIENT_ID, CLIENT_SECRET)
"""The client's credentials for HTTP Basic (RFC 6749 §2.3.1)."""
ONCE = _basic(ONCE_ID, ONCE_SECRET)
ADMIN = _basic(ADMIN_NAME, ADMIN_PASSWORD)
REDIRECT_PATH = "/public/callback"
REDIRECT_URI = f"http://127.0.0.1{REDIRECT_PATH}"
"""Where the backend shows what the client is told. Any port will do (RFC 8252 §7.3)."""
USERNAME = "alice"
PASSWORD = "wonderland"  # noqa: S105 -- as above
SCOPES = ("read", "write")

ADMIN_TOKEN = "demo-admin"  # noqa: S105 -- as above

_LOOPBACK = "127.0.0.1"
_UNKNOWN_YET = f"http://{_LOOPBACK}"
_LEAST_TOKEN_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Stack:
    """Where the parts of a running demo are; ``max_age_seconds`` is the window it promises."""

    url: str
    tls_url: str
    admin_url: str
    key_manager_url: str
    backend_url: str
    max_age_seconds: float

    @property
    def redirect_uri(self) -> str:
        """Where the browser is sent with a code or a token: through the gateway to the backend."""
        return f"http://127.0.0.1:{urlsplit(self.url).port}{REDIRECT_PATH}"


@asynccontextmanager
async def running(options: DemoOptions, *, clock: Clock | None = None) -> AsyncIterator[Stack]:
    """Run everything meanwhile.

    Raises:
        SettingsError: options that can't be used.
        OSError: a port is taken; what had been started is stopped.
        StoreUnavailable: the Redis of ``options.store`` doesn't answer.
    """
    clock = clock or SystemClock()
    async with AsyncExitStack() as parts:
        with tempfile.TemporaryDirectory(prefix="gateway-demo-") as directory:  # mode 0700
            files = write_certificate(Path(directory), options.host, now_at=clock.wall())
            settings = demo_settings(options, files)
            store, storage = _open_stores(settings.store)
            parts.push_async_callback(store.close)
            parts.enter_context(closing(storage))
            await store.ping()
            backend_url = await parts.enter_async_context(
                serving_backend(host=_LOOPBACK, port=options.backend_port)
            )
            key_manager = create_app(_key_manager_config(options), storage, clock)
            key_manager_url = await parts.enter_async_context(
                serving(key_manager, host=_LOOPBACK, port=options.key_manager_port)
            )
            settings = demo_settings(
                options, files, backend_url=backend_url, key_manager_url=key_manager_url
            )
            gateway = await parts.enter_async_context(Gateway(settings, store=store, clock=clock))
        # The gateway has read the key, so none of it stays on disk while the demo runs.
        assert gateway.tls_url is not None
        yield Stack(
            url=gateway.url,
            tls_url=gateway.tls_url,
            admin_url=gateway.admin_url,
            key_manager_url=key_manager_url,
            backend_url=backend_url,
            max_age_seconds=options.max_age_seconds,
        )


def demo_settings(
    options: DemoOptions,
    files: CertificateFiles | None = None,
    *,
    backend_url: str = _UNKNOWN_YET,
    key_manager_url: str = _UNKNOWN_YET,
) -> Settings:
    """Return the gateway's settings; without ``files`` it doesn't speak TLS.

    The addresses are known once those parts listen. What can be wrong with the options is known
    before.

    Raises:
        SettingsError: options that can't be used.
    """
    routes: list[dict[str, object]] = [
        {"path": "/orders", "upstream": backend_url, "scopes": ["read"]},
        {
            "path": "/payments",
            "upstream": backend_url,
            "scopes": ["write"],
            "max_age": timedelta(0),
        },
        {"path": "/public", "upstream": backend_url, "public": True},
    ]
    # What the key manager has besides /token and /revoke; it judges who may.
    routes += [
        {"path": path, "upstream": key_manager_url, "public": True}
        for path in ("/authorize", "/grants", "/admin/revoke", "/introspect")
    ]
    flags: dict[str, object] = {
        "listen.host": options.host,
        "listen.port": options.port,
        "admin.port": options.admin_port,
        "admin.token": ADMIN_TOKEN,
        "key_manager.url": key_manager_url,
        # The key manager writes the token store itself.
        "key_manager.record_tokens": False,
        "store.url": options.store,
        "cache.max_age": timedelta(seconds=options.max_age_seconds),
        "routes": routes,
        "logging.level": options.log_level,
        "logging.format": "console",
    }
    if files is not None:
        flags |= {
            "listen.tls_port": options.tls_port,
            "listen.tls_certificate": files.certificate,
            "listen.tls_key": files.key,
        }
    return load_settings(None, environ={}, flags=flags)


def _open_stores(store: StoreSettings) -> tuple[TokenStore, Storage]:
    """Return the gateway's view of the store and the key manager's."""
    url = store.url.get_secret_value()
    if url != "memory://":
        return open_store(store), open_storage(url, key_prefix=store.key_prefix)
    # Two clients of one server in memory, as there would be of one Redis.
    server = fakeredis.FakeServer()
    return (
        TokenStore(
            fakeredis.FakeAsyncRedis(server=server),
            key_prefix=store.key_prefix,
            timeout_seconds=store.timeout.total_seconds(),
            in_memory=True,
        ),
        Storage(fakeredis.FakeRedis(server=server), key_prefix=store.key_prefix),
    )


def _key_manager_config(options: DemoOptions) -> KeyManagerConfig:
    return KeyManagerConfig(
        clients=(
            Client(CLIENT_ID, CLIENT_SECRET, redirect_uris=(REDIRECT_URI,), scopes=SCOPES),
            Client(ONCE_ID, ONCE_SECRET, scopes=SCOPES, grant_types=("client_credentials",)),
        ),
        users=(User(USERNAME, PASSWORD),),
        admins=(User(ADMIN_NAME, ADMIN_PASSWORD),),
        # A token must outlive its facts, or its end would be taken for the window's.
        access_token_expires_in=max(_LEAST_TOKEN_SECONDS, math.ceil(2 * options.max_age_seconds)),
    )
