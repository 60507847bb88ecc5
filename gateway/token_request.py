"""What a token request says that no other place of it contradicts.

Pure: no I/O, no asyncio, no aiohttp.
"""

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl

from gateway.oauth_forms import MAX_PARAMETERS
from gateway.oauth_messages import Parameters

CLIENT_PARAMETERS = frozenset({"client_id", "client_assertion", "client_assertion_type"})

_NOT_A_LETTER = re.compile("[^a-z]")


def undoubted(body: Parameters, query: str | None) -> Parameters:
    """Return the parameters of a body that neither the query nor another spelling contradicts.

    A query counts for nothing (RFC 6749 §2.3.1, §3.2), but some key managers read it, and then
    it isn't known which value they took. Nor is it where names are spelt differently: some ignore
    case, trim, read "client.id" as "client_id", or part parameters at ";" too. Who the client is,
    is told by several parameters together.
    """
    asked = _parse_query(query or "")
    if asked is None:
        return {}
    everywhere: dict[str, set[str]] = {}
    for parameters in (body, asked):
        for name, value in _pairs(parameters):
            everywhere.setdefault(_meant(name), set()).add(value)
    kept = {
        name: values for name, values in body.items() if everywhere[_meant(name)] == set(values)
    }
    if all(
        everywhere.get(_meant(name), set()) == set(kept.get(name, ())) for name in CLIENT_PARAMETERS
    ):
        return kept
    return {name: values for name, values in kept.items() if name not in CLIENT_PARAMETERS}


def _pairs(parameters: Parameters) -> Iterator[tuple[str, str]]:
    """Yield names and values, and also those that there are where ";" parts them too."""
    for name, values in parameters.items():
        for value in values:
            yield name, value
            first, *pieces = value.split(";")
            if pieces:
                yield name, first
            for piece in pieces:
                within, _, rest = piece.partition("=")
                yield within, rest


def _meant(name: str) -> str:
    return _NOT_A_LETTER.sub("", name.lower())


def _parse_query(query: str) -> Parameters | None:
    parameters: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(query, errors="strict", max_num_fields=MAX_PARAMETERS):
            parameters.setdefault(name, []).append(value)
    except ValueError:
        return None
    return parameters
