"""The users' document, sentence by sentence: each has a step of the story or a test that shows it.

``DOCUMENT`` is its text as users have it. A sentence that is added to it fails here until it is
said what shows it.
"""

import ast
import json
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from clocks import FakeClock
from demo.conftest import Shell
from demo.test_story import Recorded, TickingClock
from rich.console import Console

from gateway.demo import DemoOptions
from gateway.demo.curls import walkthrough
from gateway.demo.process import browsable, show_stack
from gateway.demo.stack import BASIC, Stack
from gateway.demo.story import play
from gateway.settings import Cache

Run = Callable[..., AbstractAsyncContextManager[Stack]]

TESTS = Path(__file__).parent.parent

DOCUMENT = """
# Refresh Token Grant

After an access token is generated, sometimes you might have to refresh
or renew the old token due to expiration or security concerns. You use
the refresh token grant when a new access token is needed. With this
grant type, the refresh token acts as credentials that are issued to the
client by the authorization server. Issuing a refresh token is optional.
If the authorization server issues a refresh token, it is included when
issuing an access token. Refresh tokens are issued for all other grant
types other than the **implicit grant** as recommended by the OAuth 2.0
specification.

!!! tip

    Be sure to keep the refresh token private, similar to the
    access token as this token issues access tokens without user
    interactions.


To use this grant type, you need a refresh token, using which you can
get a new access token and a refresh token. This can be done by issuing
a REST call to the Token API through a REST client like cURL, with the
following parameters:

-   Token API URL -
    `https://gateway.api.cloud.wso2.com/token`.
-   payload -
    `grant_type=refresh_token&refresh_token=<retoken>`. Replace the `<retoken>` value with the refresh token that you have.
-   headers -
    `Authorization :Basic <base64 encoded string of consumer-key:consumer-secret>, Content-Type: application/x-www-form-urlencoded`. Replace
    `<base64-encoded string-of-consumer-key:consumer-secret>` as appropriate.

For example, the following cURL command can be used to access the Token
API and grant a refresh token.

``` java
curl -k -d "grant_type=refresh_token&refresh_token=<retoken>" -H "Authorization: Basic SVpzSWk2SERiQjVlOFZLZFpBblVpX2ZaM2Y4YTpHbTBiSjZvV1Y4ZkM1T1FMTGxDNmpzbEFDVzhh" -H "Content-Type: application/x-www-form-urlencoded" https://gateway.api.cloud.wso2.com/token
```

When you use the refresh grant to get a new access token, the refresh
token is renewed by default. The new refresh token has a new expiry time
and the previous refresh token becomes inactive.

### Revoke access tokens

After issuing an access token, a user or an admin can revoke it
in case of theft or a security violation. You can do this by calling the
Revoke API using a REST Client. The Revoke API's endpoint URL is
`https://gateway.api.cloud.wso2.com/revoke`. The parameters required to invoke this API are as follows:

-   The token to be revoked.
-   Consumer key and consumer secret key. Must be encoded using Base64
    algorithm.

For example:

``` java
curl -k -d "token=<access-token-to-be-revoked>" -H "Authorization: Basic Base64Encoded(Consumer-key:consumer-secret)" https://gateway.api.cloud.wso2.com/revoke
```

!!! tip

    Even after revoking a token, it might still be available in the
    API Gateway cache to consumers until the cache expires in approximately 15 minutes.
"""  # noqa: E501

HOST = "https://gateway.api.cloud.wso2.com"
REFRESH_CURL, REVOKE_CURL = re.findall(r"^curl .*$", DOCUMENT, re.MULTILINE)

# What shows a sentence: a step of the story by its name, or "file: test".
SHOWN_BY = {
    "After an access token is generated, sometimes you might have to refresh or renew the old "
    "token due to expiration or security concerns.": ["refresh"],
    "You use the refresh token grant when a new access token is needed.": ["refresh"],
    "With this grant type, the refresh token acts as credentials that are issued to the client "
    "by the authorization server.": [
        "refresh",
        "keymanager/test_request_validator.py: test_refresh_token_is_bound_to_its_client",
    ],
    "Issuing a refresh token is optional.": [
        "without",
        "keymanager/test_server.py: test_issuing_a_refresh_token_is_optional",
        "test_cli.py: test_keymanager_issues_refresh_tokens_where_it_is_told",
    ],
    "If the authorization server issues a refresh token, it is included when issuing an access "
    "token.": ["password", "issue"],
    "Refresh tokens are issued for all other grant types other than the **implicit grant** as "
    "recommended by the OAuth 2.0 specification.": [
        *("password", "client", "allow", "code", "refresh", "implicit"),
    ],
    "Be sure to keep the refresh token private, similar to the access token as this token "
    "issues access tokens without user interactions.": [
        "refresh",
        "keymanager/test_server.py: test_no_token_is_stored",
        "demo/test_story.py: test_story",
    ],
    "To use this grant type, you need a refresh token, using which you can get a new access "
    "token and a refresh token.": ["refresh"],
    "This can be done by issuing a REST call to the Token API through a REST client like cURL, "
    "with the following parameters:": ["demo/test_document.py: test_refresh_as_documented"],
    "Token API URL - `https://gateway.api.cloud.wso2.com/token`.": [
        "demo/test_document.py: test_refresh_as_documented"
    ],
    "payload - `grant_type=refresh_token&refresh_token=<retoken>`.": [
        "demo/test_document.py: test_refresh_as_documented"
    ],
    "Replace the `<retoken>` value with the refresh token that you have.": [
        "demo/test_document.py: test_refresh_as_documented"
    ],
    "headers - `Authorization :Basic <base64 encoded string of consumer-key:consumer-secret>, "
    "Content-Type: application/x-www-form-urlencoded`.": [
        "demo/test_document.py: test_refresh_as_documented",
        "keymanager/test_app.py: test_the_documented_refresh_curl",
    ],
    "Replace `<base64-encoded string-of-consumer-key:consumer-secret>` as appropriate.": [
        "demo/test_document.py: test_refresh_as_documented"
    ],
    "For example, the following cURL command can be used to access the Token API and grant a "
    "refresh token.": ["demo/test_document.py: test_refresh_as_documented"],
    REFRESH_CURL: [
        "demo/test_document.py: test_refresh_as_documented",
        "keymanager/test_app.py: test_the_documented_refresh_curl",
    ],
    "When you use the refresh grant to get a new access token, the refresh token is renewed by "
    "default.": ["refresh"],
    "The new refresh token has a new expiry time and the previous refresh token becomes "
    "inactive.": ["new expiry", "old refresh"],
    "After issuing an access token, a user or an admin can revoke it in case of theft or a "
    "security violation.": ["page", "user revokes", "admin revokes"],
    "You can do this by calling the Revoke API using a REST Client.": [
        "revoke",
        "demo/test_document.py: test_revoke_as_documented",
    ],
    "The Revoke API's endpoint URL is `https://gateway.api.cloud.wso2.com/revoke`.": [
        "demo/test_document.py: test_revoke_as_documented"
    ],
    "The parameters required to invoke this API are as follows:": [
        "demo/test_document.py: test_revoke_as_documented"
    ],
    "The token to be revoked.": ["demo/test_document.py: test_revoke_as_documented"],
    "Consumer key and consumer secret key.": [
        "demo/test_document.py: test_revoke_as_documented",
        "keymanager/test_app.py: test_failed_authentication",
    ],
    "Must be encoded using Base64 algorithm.": [
        "demo/test_document.py: test_revoke_as_documented",
        "keymanager/test_app.py: test_failed_authentication",
    ],
    "For example:": ["demo/test_document.py: test_revoke_as_documented"],
    REVOKE_CURL: [
        "demo/test_document.py: test_revoke_as_documented",
        "keymanager/test_app.py: test_the_documented_revoke_curl",
    ],
    "Even after revoking a token, it might still be available in the API Gateway cache to "
    "consumers until the cache expires in approximately 15 minutes.": [
        "still accepted",
        "lapsed",
        "demo/test_document.py: test_the_fifteen_minutes",
    ],
}


def sentences(text: str) -> list[str]:
    """The sentences of a document in Markdown, each in one line; headings and fences aren't."""
    found = []
    for block in re.split(r"\n\s*\n|\n(?=-   )", text):
        lines = [line.strip() for line in block.strip().splitlines()]
        if not lines or lines[0].startswith(("#", "!!!")):
            continue
        if lines[0].startswith("```"):
            found += lines[1:-1]
            continue
        # A full stop ends a sentence where a capital letter follows, not within a URL.
        found += re.split(r"(?<=[.:]) (?=[A-Z])", " ".join(lines).removeprefix("-   "))
    return found


def test_every_sentence_is_shown() -> None:
    """Each sentence has what shows it, and nothing is said to show what the document hasn't."""
    assert sentences(DOCUMENT) == list(SHOWN_BY)
    assert [sentence for sentence, shown in SHOWN_BY.items() if not shown] == []


async def test_the_story_has_the_steps(run: Run, console: Console) -> None:
    """Each step that is named is one of the story, and was as it should be."""
    clock = TickingClock()
    timeline = Recorded(console, clock)
    async with run(clock, max_age_seconds=900.0) as stack:
        assert await play(stack, timeline, clock, sleep=clock.sleep)
    played = {step for step, _ in timeline.steps}
    named = {shown for each in SHOWN_BY.values() for shown in each if ": " not in shown}
    assert named - played == set()


def test_the_tests_are_there() -> None:
    """Each test that is named is a test."""
    missing = []
    for shown in {shown for each in SHOWN_BY.values() for shown in each if ": " in shown}:
        file, name = shown.split(": ")
        module = ast.parse((TESTS / file).read_text("utf-8"))
        defined = {
            node.name
            for node in module.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        if name not in defined:
            missing.append(shown)
    assert missing == []


@pytest.fixture
async def tokens(stack: Stack, shell: Shell) -> dict[str, str]:
    """Tokens of the demo's client, by the demo's first command."""
    await shell.paste(walkthrough(browsable(stack.tls_url), 1.0)[0].command)
    answer: dict[str, str] = json.loads(await shell.paste('echo "$TOKENS"'))
    return answer


async def test_refresh_as_documented(stack: Stack, shell: Shell, tokens: dict[str, str]) -> None:
    """The document's command, host, token and credentials replaced, brings new tokens."""
    command = REFRESH_CURL.replace(HOST, browsable(stack.tls_url))
    command = command.replace("<retoken>", tokens["refresh_token"])
    command = re.sub(r"Basic \w+=*", f"Basic {BASIC}", command)
    answer = json.loads(await shell.paste(command))
    assert {"access_token", "refresh_token"} <= answer.keys()
    assert answer["refresh_token"] != tokens["refresh_token"]


async def test_revoke_as_documented(stack: Stack, shell: Shell, tokens: dict[str, str]) -> None:
    """The document's command, host, token and credentials replaced, ends the token."""
    url = browsable(stack.tls_url)
    command = REVOKE_CURL.replace(HOST, url)
    command = command.replace("<access-token-to-be-revoked>", tokens["access_token"])
    command = command.replace("Base64Encoded(Consumer-key:consumer-secret)", BASIC)
    assert await shell.paste(command) == ""
    answer = json.loads(
        await shell.paste(f'curl -k -H "Authorization: Bearer $TOKEN" {url}/payments')
    )
    assert answer["error"] == "invalid_token"


async def test_the_fifteen_minutes(run: Run, console: Console, clock: FakeClock) -> None:
    """They are the gateway's default; the demo says so, and can have them."""
    assert Cache().max_age.total_seconds() == 15 * 60
    async with run(clock, max_age_seconds=900.0) as stack:
        show_stack(console, stack, DemoOptions(max_age_seconds=900.0))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert "a revoked token is accepted for up to 15m" in text
    assert 'make demo ARGS="--max-age 15m"' in text
