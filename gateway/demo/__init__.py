"""``gateway demo``: the gateway with a key manager, a backend and a store, in one process.

Needs the ``demo`` extra. What it needs is imported when it runs, so that ``gateway --help``
is quick and works without the extra.
"""

from dataclasses import dataclass, field

from gateway import event_loop


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What ``gateway demo`` was asked for.

    ``host`` is where clients connect; everything else listens on 127.0.0.1. A port of 0 takes a
    free one. ``store`` is ``memory://`` or the URL of one Redis. ``story`` plays the life of a
    token instead of waiting for calls.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    tls_port: int = 8443
    admin_port: int = 9090
    key_manager_port: int = 9763
    backend_port: int = 9000
    store: str = field(default="memory://", repr=False)  # a URL may hold a password
    max_age_seconds: float = 15.0
    story: bool = False
    log_level: str = "warning"


def run(options: DemoOptions) -> int:
    """Run the demo until SIGINT or SIGTERM, or to the end of the story; return the exit code.

    0, or 1 where a step of the story isn't as it should be, where it was interrupted, or where
    the store can't be reached.

    Raises:
        SettingsError: options that can't be used.
        OSError: a port is taken; what had been started is stopped.
        ModuleNotFoundError: the ``demo`` extra isn't installed.
    """
    from gateway.demo.process import serve  # noqa: PLC0415 -- see above

    return event_loop.run(serve(options))
