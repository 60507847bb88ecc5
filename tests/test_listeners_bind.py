"""Sockets for several processes: as many as there are, of each kind, and a port nobody else has."""

import socket
import sys
from pathlib import Path

import pytest

from gateway.listeners import bind
from gateway.settings import Settings


def settings(**listen: object) -> Settings:
    """Return settings that listen so."""
    return Settings.model_validate({"listen": {"port": 0, **listen}})


TLS = {"tls_certificate": Path("tls.crt"), "tls_key": Path("tls.key")}


@pytest.mark.parametrize(
    ("listen", "plain", "tls"), [({}, 1, 0), (TLS, 0, 1), (TLS | {"tls_port": 0}, 1, 1)]
)
async def test_each_process_has_sockets_of_each_kind(
    listen: dict[str, object], plain: int, tls: int
) -> None:
    """One for what is served without TLS and one for what is served with it, as settings say."""
    for sockets in await bind(settings(**listen), 3):
        assert (len(sockets.plain), len(sockets.tls)) == (plain, tls)
        sockets.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they share one socket")
async def test_all_processes_have_one_port() -> None:
    """Even a free one that the kernel chose; each connects to some process's socket."""
    bound = await bind(settings(), 3)
    places = {sock.getsockname() for sockets in bound for sock in sockets.plain}
    assert len(places) == 1
    assert len({sock.fileno() for sockets in bound for sock in sockets.plain}) == 3
    with socket.create_connection(places.pop(), timeout=10):
        pass
    for sockets in bound:
        sockets.close()


async def test_a_port_of_others_is_taken() -> None:
    """Also of one who would share it: two gateways on one port are a mistake."""
    bound = await bind(settings(), 2)
    port = bound[0].plain[0].getsockname()[1]
    with pytest.raises(OSError, match=rf"bind on address \('127.0.0.1', {port}\)"):
        await bind(settings(port=port), 2)
    for sockets in bound:
        sockets.close()
    for sockets in await bind(settings(port=port), 2):  # it is free again
        sockets.close()
