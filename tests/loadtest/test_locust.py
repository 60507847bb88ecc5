"""The plan on Locust: run headless, in processes of its own, as gevent patches what it runs in."""

import asyncio
import os
import shlex
import subprocess
import sys
from asyncio.subprocess import Process
from importlib.util import find_spec
from pathlib import Path

import pytest
from redis_server import free_port

from gateway.loadtest.analysis import analyse
from gateway.loadtest.merge import merge_files
from gateway.loadtest.record import load_record
from loadtest.fake_gateway import FakeGateway, serving
from loadtest.told import SECRET

# Looked for and not imported: locust patches the process that imports it, this one included.
pytestmark = pytest.mark.skipif(
    find_spec("locust") is None, reason="the extra locust isn't installed"
)

LOCUSTFILE = "from gateway.loadtest.locust import RevocationUser\n"


def flags(url: str, out: Path, **changes: object) -> str:
    told: dict[str, object] = {
        "target": f"{url}/orders",
        "token-url": f"{url}/token",
        "revoke-url": f"{url}/revoke",
        "client-id": "me",
        "tokens": 12,
        "probe-interval": "50ms",
        "revoke-rate": 50,
        "watch": "1s",
        "max-age": "100ms",
        "background-rps": 20,
        "seed": 3,
        "out": out,
        **changes,
    }
    return shlex.join(part for name, value in told.items() for part in (f"--{name}", str(value)))


async def start(folder: Path, *arguments: str) -> Process:
    locustfile = folder / "locustfile.py"
    locustfile.write_text(LOCUSTFILE)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "locust", "-f", str(locustfile), *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "GATEWAY_LOADTEST_CLIENT_SECRET": SECRET},
    )


async def finish(*processes: Process) -> tuple[list[int | None], str]:
    """Return the exit codes and what was printed; none runs for more than 40 seconds."""
    try:
        async with asyncio.timeout(40):
            said = await asyncio.gather(*(process.communicate() for process in processes))
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return [process.returncode for process in processes], "".join(out.decode() for out, _ in said)


async def test_one_process(tmp_path: Path) -> None:
    """A local run makes the whole plan, writes one record, and ends by itself."""
    gateway = FakeGateway(window_seconds=0.1)
    out = tmp_path / "run.jsonl"
    async with serving(gateway) as url:
        told = flags(url, out)
        process = await start(tmp_path, "--headless", "-u", "1", "--loadtest", told)
        codes, said = await finish(process)
    assert codes == [0], said
    record = load_record(out)
    assert record.end is not None
    assert (record.end.reason, len(record.revokes)) == ("completed", 12)
    assert record.header.arguments["loop"] == "gevent"
    windows = analyse(record).windows
    assert len(windows) == 12
    assert all(window.since_answered.lower < 0.1 for window in windows)
    assert {row.token for row in record.background} <= set(range(12, 22))
    assert "target 0" in said
    assert SECRET not in said + out.read_text()


async def test_two_workers(tmp_path: Path) -> None:
    """Workers share a plan, write a record each, and the records merge into that of one run."""
    gateway = FakeGateway(window_seconds=0.1)
    out = tmp_path / "run.jsonl"
    port = str(free_port())
    async with serving(gateway) as url:
        where = ("--master-bind-host", "127.0.0.1", "--master-bind-port", port)
        many = ("--expect-workers", "2", "-u", "2", "-r", "2")
        told = ("--loadtest", flags(url, out))
        master = await start(tmp_path, "--headless", "--master", *where, *many, *told)
        workers = [
            await start(tmp_path, "--worker", "--master-host", "127.0.0.1", "--master-port", port)
            for _ in range(2)
        ]
        codes, said = await finish(master, *workers)
    assert codes == [0, 0, 0], said
    files = [tmp_path / f"run.worker-{index}.jsonl" for index in range(2)]
    merge_files(files, out)
    record = load_record(out)
    assert sorted(row.token for row in record.revokes) == list(range(12))
    assert record.header.arguments["workers"] == 2
    assert record.end is not None
    assert [len(load_record(path).revokes) for path in files] == [6, 6]


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ("--target http://h/", "--loadtest: --seed is needed in it"),
        ("--target http://h/ --seed 1", "--loadtest: Missing option '--revoke-url'"),
        (
            "--target http://h/ --revoke-url http://h/ --seed 1 --tokens 0",
            "--tokens: 0: from 1 to 1000000 are allowed",
        ),
    ],
)
async def test_wrong_flags(tmp_path: Path, told: str, fault: str) -> None:
    """What is wrong with the flags is said as by the command."""
    process = await start(tmp_path, "--headless", "-u", "1", "-t", "1s", "--loadtest", told)
    codes, said = await finish(process)
    assert (codes != [0], fault in said) == (True, True), said
