"""What to install where an optional part is used and isn't there.

This project's own name is on no package index, so ``pip install`` by that name would fetch
whatever somebody else puts there. What an extra needs is told by the packages' own names.
"""

import shlex
from importlib import metadata

DISTRIBUTION = "revocation-gateway"


def how_to_install(extra: str) -> str:
    """Return the command that installs what an extra needs, into this Python."""
    try:
        needs = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        needs = []
    wanted = [
        need.partition(";")[0].strip()
        for need in needs
        if f"extra == '{extra}'" in need.replace('"', "'")
    ]
    return shlex.join(["pip", "install", *(wanted or [f".[{extra}]"])])
