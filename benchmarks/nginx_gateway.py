"""How long does a revoked token live behind nginx that caches introspection?

    python benchmarks/nginx_gateway.py [folder] [name of a run ...]

Needs nginx with njs (Debian: nginx, libnginx-mod-http-js). Runs docs/loadtest/nginx.conf, moved
to free ports and a folder of its own, with one directive varied, and leaves the reports.
What came of it is in docs/loadtest.md.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from asyncio.subprocess import Process
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from busy import NotUpError
from surroundings import (
    CLIENT,
    SECRET,
    answering,
    backend,
    free_ports,
    key_manager,
    load_test,
    report,
    running,
)

RECIPE = Path(__file__).parent.parent / "docs" / "loadtest"
NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
CREDENTIALS = b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
CACHED = "proxy_cache_valid 204 2s;"
STALE = f"{CACHED} proxy_cache_use_stale updating; proxy_cache_background_update on;"
STALE_401 = f"{STALE} proxy_cache_valid 401 2s;"


class Run(NamedTuple):
    """A run: what stands for ``CACHED`` in the recipe, and flags besides the usual ones."""

    cached: str
    flags: Sequence[str] = ()


RUNS = {
    "nginx-2s": Run(CACHED),
    # The same, told the lifetime that it turns out to have.
    "nginx-2s-told-3s": Run(CACHED, ["--max-age=3s"]),
    "nginx-1s": Run("proxy_cache_valid 204 1s;"),
    "nginx-stale": Run(STALE),
    "nginx-stale-401": Run(STALE_401),
    # A client that calls every five seconds instead of eight times a second.
    "nginx-stale-401-5s": Run(STALE_401, ["--probe-interval=5s", "--watch=20s"]),
}


def configuration(recipe: str, ports: dict[str, int], cached: str) -> str:
    """Return the recipe with other ports, and with another directive in place of ``CACHED``.

    Raises:
        ValueError: the recipe doesn't have what is to be changed.
    """
    changes = {f"127.0.0.1:{known};": f"127.0.0.1:{port};" for known, port in ports.items()}
    for old, new in {**changes, CACHED: cached}.items():
        if old not in recipe:
            raise ValueError(f"the recipe has no {old!r}")
        recipe = recipe.replace(old, new)
    return recipe


@asynccontextmanager
async def nginx(recipe: str) -> AsyncIterator[Process]:
    """Run nginx until the block ends, as nobody if started by root."""
    assert NGINX is not None
    with tempfile.TemporaryDirectory() as private:
        folder = Path(private)
        (folder / "nginx.conf").write_text(recipe)
        (folder / "introspection_client.conf").write_text(
            f'proxy_set_header Authorization "Basic {CREDENTIALS}";\n'
        )
        shutil.copy(RECIPE / "introspection.js", folder)
        unprivileged: dict[str, Any] = {}
        if os.geteuid() == 0:
            unprivileged = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            for path in (folder, *folder.rglob("*")):
                shutil.chown(path, "nobody", "nogroup")
        command = [NGINX, "-p", private, "-c", str(folder / "nginx.conf"), "-e", "stderr"]
        async with running(*command, **unprivileged) as process:
            yield process


async def measure(folder: Path, names: Sequence[str]) -> int:
    """Make the runs, leave their reports in ``folder``, and return the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = (RECIPE / "nginx.conf").read_text()
    redis_port, manager, port, check = free_ports(4)
    url = f"http://127.0.0.1:{port}"
    codes = []
    async with AsyncExitStack() as stack:
        ports = {"8080": port, "8081": check, "9763": manager}
        ports["9000"] = await stack.enter_async_context(backend())
        private = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        await stack.enter_async_context(key_manager(private, manager, redis_port))
        for name in names:
            async with nginx(configuration(recipe, ports, RUNS[name].cached)) as process:
                await answering(f"{url}/orders", process)
                usual = ["--max-age=2s", "--tokens=200", "--background-rps=300"]
                record = folder / f"{name}.jsonl"
                codes.append(await load_test(record, url, "/orders", *usual, *RUNS[name].flags))
    records = [folder / f"{name}.jsonl" for name in names]
    return max(*codes, report(folder, records, "html", "json", "png"))


if __name__ == "__main__":
    if NGINX is None:
        sys.exit("nginx isn't installed; on Debian: apt-get install nginx libnginx-mod-http-js")
    arguments = sys.argv[1:] or ["build/loadtest-nginx"]
    try:
        code = asyncio.run(measure(Path(arguments[0]), arguments[1:] or list(RUNS)))
    except NotUpError as fault:
        sys.exit(f"nothing was measured: {fault}")
    sys.exit(code)
