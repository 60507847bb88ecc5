"""What can be wrong with settings beyond themselves: files, packages, and nothing to serve."""

import ssl
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from gateway.certificates import UnusableCertificate, server_context
from gateway.extras import how_to_install
from gateway.settings.faults import fault, origin_of
from gateway.settings.model import Settings


def missing_parts(settings: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    """Yield a fault when there is nothing to serve."""
    key_manager = settings.key_manager
    if not settings.routes and not (key_manager.token_endpoint or key_manager.revoke_endpoint):
        origin = origins.get("routes", "default")
        yield f"routes = [] ({origin}): at least one route, or key_manager.url, is needed"


def missing_packages(settings: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    """Yield a fault where something is chosen that isn't installed."""
    if settings.listen.event_loop == "uvloop" and find_spec("uvloop") is None:
        place = ("listen", "event_loop")
        allowed = f"uvloop isn't installed; {how_to_install('uvloop')}"
        yield fault(place, settings.listen.event_loop, origin_of(place, origins), allowed)


def unusable_files(settings: Settings, origins: Mapping[str, str]) -> Iterator[str]:
    """Yield a fault for each file that can't be read or isn't what its setting takes."""
    authorities = "a PEM file with certificates is allowed"
    checks: list[tuple[tuple[str, str], Path | None, Callable[[Path], object], str]] = []
    for name, section in (("listen", settings.listen), ("store", settings.store)):
        pair = f"a PEM certificate is allowed, with its own key, unencrypted, in {name}.tls_key"
        load_pair = partial(server_context, key=section.tls_key)
        checks += [
            ((name, "tls_key"), section.tls_key, lambda _: None, ""),
            ((name, "tls_certificate"), section.tls_certificate, load_pair, pair),
        ]
    checks += [
        (("key_manager", "ca_file"), settings.key_manager.ca_file, _load_authorities, authorities),
        (("store", "ca_file"), settings.store.ca_file, _load_authorities, authorities),
        (("proxy", "ca_file"), settings.proxy.ca_file, _load_authorities, authorities),
    ]
    for path, file, load, allowed in checks:
        if file is None:
            continue
        origin = origin_of(path, origins)
        try:
            file.open("rb").close()
        except OSError as error:
            reason = (error.strerror or "unknown error").lower()
            yield fault(path, str(file), origin, f"a file that can be read is allowed; {reason}")
            continue
        try:
            load(file)
        except UnusableCertificate as error:
            yield fault(path, str(file), origin, f"{allowed}; {error}")
        except (ssl.SSLError, ValueError):
            yield fault(path, str(file), origin, allowed)
        except OSError:
            continue  # the key can't be read: its own fault says so


def _load_authorities(file: Path) -> None:
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
