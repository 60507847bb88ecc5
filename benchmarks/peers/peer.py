"""What the benchmark knows of a gateway beside which ours is measured."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rig.processes import Process, free_ports, running

HERE = Path(__file__).parent
UNPRIVILEGED = "user nobody nogroup;" if os.geteuid() == 0 else ""
"""nginx's own directive for the user of its workers."""


@dataclass(frozen=True)
class Scene:
    """What all gateways have around them: ports of loopback, files, processors."""

    folder: Path
    backend: int
    redis: int
    certificate: Path
    key: Path
    tools: Path
    """A virtual environment with what PyPI has of the peers."""
    processors: tuple[set[int], set[int]]
    authorizer: int = 0
    """Whom this gateway asks, if it asks anyone."""


@dataclass(frozen=True)
class Gateway:
    """A gateway that runs: where it listens, and its processes."""

    port: int
    tls_port: int
    process: Process
    admin: int


class NotHere(RuntimeError):
    """The gateway isn't installed; the message says what is missing."""


@dataclass(frozen=True)
class Peer:
    """A gateway to be measured."""

    name: str
    title: str
    checks_tokens: bool = True
    fresh: bool = True
    """Whether it can be told to ask about a token every time."""
    asks: Literal["never", "on a miss", "always"] = "never"
    """When it asks the authorizer, a process of its own that isn't counted as the gateway's."""
    cases: Sequence[str] = ()
    """The only cases that it takes part in; all, if empty."""
    marks: bool = False
    """Whether tokens are revoked that it has cached, before it is measured."""
    cold: bool = False
    """Whether each of its requests has a token of its own, where others' have a hot one."""

    def command(self, scene: Scene, folder: Path, ports: Mapping[str, int]) -> Sequence[str | Path]:
        """Write the configuration into ``folder`` and return how to start the gateway.

        Raises:
            NotHere: it isn't installed.
        """
        raise NotImplementedError

    def environ(self, scene: Scene) -> Mapping[str, str]:
        """Return what it needs in its environment."""
        del scene
        return {}

    def processors(self, scene: Scene) -> set[int]:
        """Return where it may run: on one, as its one worker would."""
        return scene.processors[0]

    @contextmanager
    def running(self, scene: Scene, folder: Path) -> Iterator[Gateway]:
        """Run the gateway until the block ends, in a folder of its own.

        Raises:
            NotHere: it isn't installed.
            DidNotStart: it doesn't listen.
        """
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        ports = dict(zip(("port", "tls_port", "admin"), free_ports(3), strict=True))
        with running(
            self.command(scene, folder, ports),
            on=self.processors(scene),
            environ=self.environ(scene),
            log=folder / "log",
            ports=[ports["port"], ports["tls_port"]],
        ) as process:
            yield Gateway(ports["port"], ports["tls_port"], process, ports["admin"])


def configure(template: str, into: Path, values: Mapping[str, object]) -> Path:
    """Write one of the configurations here with ``@name@`` filled in; where it was written to.

    ``@@`` stands for ``@``.

    Raises:
        KeyError: it has a name that has no value.
    """
    text = (HERE / template).read_text("utf-8")
    filled = re.sub(r"@(\w*)@", lambda found: str(values[found[1]] if found[1] else "@"), text)
    into.write_text(filled, "utf-8")
    return into
