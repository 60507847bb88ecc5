"""What a token request says that no other place of it contradicts.

Pure: no I/O, no asyncio, no aiohttp.
"""

from urllib.parse import parse_qsl

from gateway.oauth_forms import MAX_PARAMETERS
from gateway.oauth_messages import Parameters

CLIENT_PARAMETERS = frozenset({"client_id", "client_assertion", "client_assertion_type"})


def undoubted(body: Parameters, query: str | None) -> Parameters:
    """Return the parameters of a body that neither the query nor another spelling contradicts.

    A query counts for nothing (RFC 6749 §2.3.1, §3.2), but some key managers read it, and then
    it isn't known which value they took. Nor is it where names differ by case alone, which some
    don't tell apart. Who the client is, is told by several parameters together.
    """
    asked = _parse_query(query or "")
    if asked is None:
        return {}
    everywhere: dict[str, set[str]] = {}
    for parameters in (body, asked):
        for name, values in parameters.items():
            everywhere.setdefault(name.lower(), set()).update(values)
    kept = {
        name: values for name, values in body.items() if everywhere[name.lower()] == set(values)
    }
    if all(everywhere.get(name, set()) == set(kept.get(name, ())) for name in CLIENT_PARAMETERS):
        return kept
    return {name: values for name, values in kept.items() if name not in CLIENT_PARAMETERS}


def _parse_query(query: str) -> Parameters | None:
    parameters: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(query, errors="strict", max_num_fields=MAX_PARAMETERS):
            parameters.setdefault(name, []).append(value)
    except ValueError:
        return None
    return parameters
