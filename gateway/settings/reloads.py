"""Which settings a gateway that runs can take, and which need a restart."""

from gateway.settings.model import Settings
from gateway.settings.render import changed_settings

_NEED_RESTART = (
    "admin.",
    "cache.max_entries",
    "cache.negative_max_entries",
    "listen.backlog",
    "listen.event_loop",
    "listen.host",
    "listen.port",
    "listen.tls_port",
    "listen.workers",
    "revocation.feed",
    "revocation.on_revoke",
    "store.",
)


def applicable(old: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """Return ``new`` but for what needs a restart, which is as in ``old``; and the names of that.

    Only what differs is named.
    """
    fixed = [name for name in changed_settings(old, new) if name.startswith(_NEED_RESTART)]
    sections: dict[str, dict[str, object]] = {}
    for name in fixed:
        section, _, field = name.partition(".")
        sections.setdefault(section, {})[field] = getattr(getattr(old, section), field)
    update = {
        section: getattr(new, section).model_copy(update=fields)
        for section, fields in sections.items()
    }
    return new.model_copy(update=update), fixed
