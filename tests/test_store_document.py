"""docs/store.md says what the code does: its examples, tables and permissions are run."""

import asyncio
import json
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
import redis_cli
from clocks import FakeClock
from proxy.gateways import LogText, until
from redis_server import RedisServer

from gateway import metrics, tokens
from gateway.errors import StoreUnavailable
from gateway.grant_book import GRANT_SECONDS
from gateway.grants import Grant
from gateway.issued import Issued
from gateway.notices import Notices
from gateway.recording import RETRY_SECONDS
from gateway.settings import Cache, KeyManager, Store
from gateway.store import GrantUpdate, NewDocument, TokenStore, open_store
from gateway.tokens import INACTIVE, Facts, MalformedFacts, parse_facts, token_key

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "store.md").read_text()
TOKEN = "mF_9.B5f-4.1JqM"
NOW = 1_700_000_000


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def table(first_header: str) -> dict[str, list[str]]:
    """Return the rows of a table by their first cell."""
    _, _, rest = PAGE.partition(f"| {first_header} |")
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in rest.split("\n\n", 1)[0].splitlines()[2:]
    ]
    return {row[0].strip("| `"): row[1:] for row in rows}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis whose users and slots a test may change."""
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[TokenStore]:
    store = open_store(Store.model_validate({"url": redis_url, "timeout": "5s"}))
    yield store
    await store.close()


def test_the_key_is_the_one_that_is_looked_up() -> None:
    """The example of a key is what the code makes of the example of a token."""
    assert f"`{TOKEN}`" in PAGE
    name = TokenStore(fakeredis.FakeAsyncRedis()).name(token_key(TOKEN))
    assert blocks("text")[0].strip() == name
    assert name.startswith(Store().key_prefix)


def test_the_example_is_accepted_with_all_that_it_says() -> None:
    """The document of the page is an active token's."""
    (example,) = blocks("json")
    facts = Facts(True, "demo-key", "alice", frozenset({"read", "write"}), NOW + 3600.0)
    assert parse_facts(example, now_at=NOW) == facts


def test_the_table_has_the_members_that_are_read() -> None:
    """No member more and none less than ``tokens.parse_facts`` asks for, but a name to read."""
    source = Path(tokens.__file__).read_text()
    read = re.findall(r'(?:members\.get\(|_text\(members, |_instant\(members, )"(\w+)"', source)
    assert sorted([*table("member"), "username"]) == sorted(read)


WRONG = {"boolean": "yes", "string": 1, "number": "1"}


@pytest.mark.parametrize("member", sorted(table("member")))
def test_a_member_of_another_type_is_malformed(member: str) -> None:
    """The types of the table are the ones that are asked for."""
    kind = table("member")[member][0].split(",")[0].split()[0]
    document = {"active": True, member: WRONG.get(kind, 1)}
    if kind == "anything":
        assert parse_facts(json.dumps(document), now_at=NOW) == INACTIVE
    else:
        with pytest.raises(MalformedFacts):
            parse_facts(json.dumps(document), now_at=NOW)


@pytest.mark.parametrize("member", ["iat", "username", "iss", "aud", "jti"])
def test_other_members_are_ignored(member: str) -> None:
    """Whatever their type; they are named on the page."""
    assert f"`{member}`" in PAGE
    document = {"active": True, member: [None]}
    assert parse_facts(json.dumps(document), now_at=NOW) == Facts(active=True)


@pytest.mark.parametrize("member", sorted(set(table("member")) - {"active"}))
def test_null_counts_as_absent(member: str) -> None:
    """Except for ``active``, which is required."""
    document = {"active": True, member: None}
    assert parse_facts(json.dumps(document), now_at=NOW) == Facts(active=True)


async def test_what_is_no_string_is_no_token(store: TokenStore, redis_url: str) -> None:
    """MGET finds nothing where there is a hash."""
    with redis.Redis.from_url(redis_url) as client:
        client.hset(store.name(token_key(TOKEN)), "active", "true")
    assert await store.get_many([token_key(TOKEN)]) == [None]


async def test_the_shell_lines_write_and_revoke(
    store: TokenStore, redis_url: str, tmp_path: Path
) -> None:
    """In the order of the page: a key, a token, its removal, a mark instead."""
    variables, write, remove, mark = blocks("sh")
    found = [
        await run_shell(store, redis_url, tmp_path, *lines)
        for lines in (
            (variables, write),
            (variables, write, remove),
            (variables, write, mark),
        )
    ]
    written = parse_facts(found[0] or b"", now_at=time.time())
    assert written.scopes == {"read", "write"}
    assert written.exp == pytest.approx(time.time() + 3600, abs=30)
    assert found[1] is None
    assert parse_facts(found[2] or b"", now_at=time.time()) == INACTIVE
    with redis.Redis.from_url(redis_url) as client:
        left = client.pttl(store.name(token_key(TOKEN)))
    assert left == pytest.approx(3_600_000, abs=30_000)


async def run_shell(store: TokenStore, url: str, folder: Path, *lines: str) -> bytes | None:
    """Run lines with a redis-cli pointed to the test's Redis; return what is stored then."""
    script = "".join(lines).replace("redis-cli ", f"redis-cli -u {url} ")
    redis_cli.install(folder)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    shell = await asyncio.create_subprocess_exec(
        *("sh", "-euc", script), env={"PATH": path}, stdout=asyncio.subprocess.DEVNULL
    )
    assert await shell.wait() == 0
    (found,) = await store.get_many([token_key(TOKEN)])
    return found


async def test_the_python_lines_write_and_revoke(store: TokenStore, redis_url: str) -> None:
    """A key manager may copy them as they are."""
    (source,) = blocks("python")
    example: dict[str, Any] = {}
    exec(compile(source, "store.md", "exec"), example)
    with redis.Redis.from_url(redis_url) as client:
        arguments = {"client_id": "demo-key", "sub": "alice", "scope": "read", "life_seconds": 60}
        example["record"](client, TOKEN, **arguments)
        (written,) = await store.get_many([token_key(TOKEN)])
        assert client.pttl(store.name(token_key(TOKEN))) == pytest.approx(60_000, abs=30_000)
        example["revoke"](client, TOKEN)
    assert parse_facts(written or b"", now_at=time.time()).sub == "alice"
    assert await store.get_many([token_key(TOKEN)]) == [None]


def test_a_recorded_document_has_members_that_the_page_names(clock: FakeClock) -> None:
    """What the gateway writes is described, too."""
    issued = Issued(
        token_key(TOKEN), NOW, NOW + 60, client_id="a", sub="b", username="b", scope="read"
    )
    assert all(f"`{member}`" in PAGE or f'"{member}"' in PAGE for member in issued.document())


def test_the_fields_of_a_grant_are_in_their_table() -> None:
    """A digest stands for itself; the others by name."""
    key = token_key(TOKEN)
    grant = Grant("a", "b", "c", access={key: NOW}, successor=key, revoked_at=NOW)
    names = {name for cell in table("field") for name in re.findall(r"\w+", cell)}
    assert set(grant.fields()) - {key.hex()} <= names
    name = TokenStore(fakeredis.FakeAsyncRedis()).grant_name(key)
    assert name == f"token:grant:{key.hex()}"
    assert "`grant:` and the digest of the refresh token" in PAGE


async def use_everything(store: TokenStore) -> None:
    key, another = token_key(TOKEN), token_key("other")
    await store.ping()
    new = NewDocument(key, {"active": True, "exp": NOW}, 60)
    assert await store.record([new]) == [True]
    later = NewDocument(key, {"active": True, "exp": NOW + 1}, 60)
    assert await store.record([later]) == [True]
    assert await store.get_many([key, another]) == [later.value.encode(), None]
    (found,) = await store.find_many([key])
    if found is None or not found.life_seconds:
        raise StoreUnavailable  # for caching: there is no PTTL
    assert await store.end({key: 60, another: 60}) == 1
    assert await store.record([later]) == [False]
    update = GrantUpdate(key, {"sub": "alice", "scope": "a"}, expires_in_seconds=60)
    await store.update_grants([update])
    update = GrantUpdate(key, {"sub": "b"}, without=["scope"])
    assert await store.update_grants([update]) == await store.grants([key]) == [{"sub": "b"}]
    await store.update_grants([GrantUpdate(key, {}, expires_in_seconds=60)])


async def use_without_recording(store: TokenStore) -> None:
    key = token_key("unknown")
    await store.ping()
    assert await store.get_many([key]) == [None]
    assert await store.find_many([key]) == [None]
    assert await store.grants([key]) == [{}]
    await store.update_grants([GrantUpdate(key, {"revoked": "1"}, expires_in_seconds=60)])
    assert await store.end({key: 60}) == 0


def permit(server: RedisServer, rule: str, *more: str) -> None:
    with redis.Redis(port=server.port) as client:
        client.execute_command(*rule.split(), *more)


@asynccontextmanager
async def as_gateway(
    server: RedisServer, *, kind: str = "redis", database: str = "/0"
) -> AsyncIterator[TokenStore]:
    url = f"{kind}://gateway:a-long-secret@127.0.0.1:{server.port}{database}"
    store = open_store(Store.model_validate({"url": url, "timeout": "5s"}))
    try:
        yield store
    finally:
        await store.close()


async def test_the_permissions_are_enough(server: RedisServer) -> None:
    """As that user every call of the store succeeds, on a real Redis."""
    server.start()
    _, everything, without_recording, _ = blocks("text")
    permit(server, everything)
    async with as_gateway(server) as store:
        await use_everything(store)
    permit(server, "ACL DELUSER gateway")
    permit(server, without_recording)
    async with as_gateway(server) as store:
        await use_without_recording(store)
        with pytest.raises(StoreUnavailable):
            await use_everything(store)


@pytest.mark.parametrize("command", re.findall(r" (\+\S+)", blocks("text")[1]))
async def test_no_permission_is_too_much(server: RedisServer, command: str) -> None:
    """Without any one of them something fails."""
    server.start()
    permit(server, blocks("text")[1].replace(f" {command}", ""))
    async with as_gateway(server) as store:
        with pytest.raises(StoreUnavailable):
            await use_everything(store)


async def test_an_eviction_of_the_fleet_is_permitted(server: RedisServer, log: LogText) -> None:
    """By the page's lines it was 503, and nothing said why; without them the log does."""
    server.start()
    _, everything, _, channels = blocks("text")
    permit(server, everything)
    permit(server, channels.replace("+publish ", ""))
    async with as_gateway(server) as store:
        notices = Notices(store, ignore, ping_interval_seconds=1)
        notices.start()
        async with asyncio.timeout(20):
            await notices.up.wait()
        with pytest.raises(StoreUnavailable):
            await notices.tell("all")
        (said,) = log.named("other gateways can't be told")
        assert (said["why"], said["remedy"]) == (
            "NoPermissionError",
            "grant the store's user +publish &token:notices",
        )
        permit(server, channels)
        assert await notices.tell("all") == 0
        await notices.stop()


async def test_a_channel_that_may_not_be_heard_is_named(server: RedisServer, log: LogText) -> None:
    """At the start, too, when nothing was ever heard."""
    server.start()
    _, everything, _, channels = blocks("text")
    permit(server, everything)
    permit(server, channels.replace(" &token:notices", ""))
    async with as_gateway(server) as store:
        notices = Notices(store, ignore, ping_interval_seconds=1)
        notices.start()
        await until(lambda: bool(log.named("notices of other gateways aren't heard")))
        await notices.stop()
    (said,) = log.named("notices of other gateways aren't heard")
    assert said["remedy"] == "grant the store's user +subscribe &token:notices"


async def ignore(_notice: Any) -> None:
    return


async def test_another_database_needs_select(server: RedisServer) -> None:
    """As the page says."""
    assert "also `+select`" in PAGE
    server.start()
    permit(server, blocks("text")[1], "+select")
    async with as_gateway(server, database="/1") as store:
        await use_everything(store)


async def test_a_cluster_needs_its_map(tmp_path: Path) -> None:
    """The two more permissions of the page are enough in a real Cluster, grants included."""
    assert "also `+cluster|slots +command`" in PAGE
    server = start_cluster(tmp_path)
    permit(server, blocks("text")[1], "+cluster|slots", "+command")
    try:
        async with as_gateway(server, kind="redis+cluster", database="") as store:
            await use_everything(store)
    finally:
        server.stop()


def start_cluster(directory: Path) -> RedisServer:
    """Start a Cluster of one node, which has all slots."""
    server = RedisServer(directory)
    while server.port >= 55_535:  # the bus between nodes is at the port 10,000 above
        server = RedisServer(directory)
    server.arguments = ("--cluster-enabled", "yes")
    server.start()
    with redis.Redis(port=server.port) as client:
        client.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
        deadline = time.monotonic() + 10
        while (
            "ok" not in str(client.execute_command("CLUSTER", "INFO")).split("cluster_state")[1][:8]
        ):
            assert time.monotonic() < deadline
    return server


def test_names_and_numbers_of_the_page_are_those_of_the_code() -> None:
    """Settings with their defaults, metrics, times."""
    assert KeyManager().record_tokens is True
    assert Cache().negative_max_age.total_seconds() == RETRY_SECONDS == 1
    assert "`cache.negative_max_age` (1 s)" in PAGE
    assert f"{GRANT_SECONDS / 86_400:.0f} days from its last use" in PAGE
    rendered = metrics.Metrics().render().decode()
    decision = (DOCS / "decisions" / "0003-revocation-needs-the-store.md").read_text()
    for name in re.findall(r"gateway_\w+_total", PAGE + decision):
        assert f"# TYPE {name} counter" in rendered
