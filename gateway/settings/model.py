"""All settings as one: their sections, and what must hold between these."""

from collections.abc import Iterator

from pydantic import model_validator

from gateway.settings.sections import (
    Admin,
    Cache,
    KeyManager,
    Limits,
    Listen,
    Logging,
    Proxy,
    Revocation,
    RouteSettings,
    Section,
    Store,
)
from gateway.settings.types import Conflict, Place, format_duration, same_path


class Settings(Section):
    """All settings, valid as a whole."""

    listen: Listen = Listen()
    admin: Admin = Admin()
    key_manager: KeyManager = KeyManager()
    store: Store = Store()
    cache: Cache = Cache()
    revocation: Revocation = Revocation()
    routes: tuple[RouteSettings, ...] = ()
    proxy: Proxy = Proxy()
    limits: Limits = Limits()
    logging: Logging = Logging()

    @model_validator(mode="after")
    def _fit_together(self) -> "Settings":
        faults = [
            *self._ports_clash(),
            *self._admin_is_open(),
            *self._routes_clash(),
            *self._windows_widen(),
            *self._refresh_is_recorded(),
            *self._apart(),
        ]
        if faults:
            raise Conflict(*faults)
        return self

    def _ports_clash(self) -> Iterator[tuple[Place, str]]:
        hosts = {self.listen.host, self.admin.host}
        everywhere = hosts & {"0.0.0.0", "::"}  # noqa: S104 (compared, not bound)
        taken = {self.listen.port, self.listen.tls_port} - {0}
        if self.admin.port in taken and (len(hosts) == 1 or everywhere):
            yield ("admin", "port"), "another port than those of listen is allowed"

    def _admin_is_open(self) -> Iterator[tuple[Place, str]]:
        # Not within the section: a health check reads that one without the secret.
        if not self.admin.on_loopback and self.admin.token is None:
            yield ("admin", "host"), "only a loopback address is allowed without admin.token"

    def _routes_clash(self) -> Iterator[tuple[Place, str]]:
        methods_by_path: dict[str, set[str]] = {}
        path_by_label: dict[str, str] = {}
        endpoints = {
            same_path(getattr(self.key_manager, name)): name
            for name, url in (
                ("token_path", self.key_manager.token_endpoint),
                ("revoke_path", self.key_manager.revoke_endpoint),
            )
            if url
        }
        for index, route in enumerate(self.routes):
            path = route.path.rstrip("/") or "/"
            methods = set(route.methods) or {"*"}
            taken = methods_by_path.setdefault(path, set())
            if taken & methods:
                yield ("routes", index, "path"), "allowed twice only with distinct methods"
            taken |= methods
            if path_by_label.setdefault(route.label, path) != path:
                at = "name" if route.name else "path"
                yield ("routes", index, at), "a name that no other route has is allowed"
            if same_path(path) in endpoints:
                at = endpoints[same_path(path)]
                yield ("routes", index, "path"), f"key_manager.{at} has this path"

    def _windows_widen(self) -> Iterator[tuple[Place, str]]:
        most = self.cache.max_age
        for index, route in enumerate(self.routes):
            if route.max_age is not None and route.max_age > most:
                allowed = f"at most cache.max_age, {format_duration(most)}, is allowed"
                yield ("routes", index, "max_age"), f"{allowed}: a route can only tighten it"

    def _refresh_is_recorded(self) -> Iterator[tuple[Place, str]]:
        for name in ("revoke_on_refresh", "revoke_on_replay"):
            if getattr(self.revocation, name) and not self.key_manager.record_tokens:
                needed = "allowed only where key_manager.record_tokens is true"
                yield ("revocation", name), needed

    def _apart(self) -> Iterator[tuple[Place, str]]:
        in_memory = self.store.url.get_secret_value() == "memory://"
        if in_memory and self.listen.workers > 1:
            what = "1 is allowed where store.url is memory://, which is one process's own"
            yield ("listen", "workers"), what
