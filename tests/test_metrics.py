"""Metrics: what is exposed reads back as it was counted, by the names that conventions ask for."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway import __version__
from gateway.metrics import Metrics

LABELS = {
    "route",
    "outcome",
    "cache",
    "cause",
    "command",
    "result",
    "reason",
    "member",
    "le",
    "version",
    "python",
    "aiohttp",
}


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Return what is exposed, by name and label values, without the times of creation."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


Acts = list[tuple[Any, ...]]

CASES: list[tuple[Acts, dict[tuple[str, ...], float]]] = [
    ([("request_started",)], {("gateway_requests_in_progress",): 1}),
    (
        [("request_started",), ("request_ended", "orders", "proxied", 0.25)],
        {
            ("gateway_requests_total", "proxied", "orders"): 1,
            ("gateway_request_duration_seconds_count", "orders"): 1,
            ("gateway_request_duration_seconds_sum", "orders"): 0.25,
        },
    ),
    ([("connection_opened",)], {("gateway_connections",): 1}),
    ([("connection_opened",), ("connection_closed",)], {}),
    (
        [("connection_displaced", "memory")],
        {("gateway_connections_displaced_total", "memory"): 1},
    ),
    ([("accept_failed",)], {("gateway_accepts_failed_total",): 1}),
    ([("handshake_began",)], {("gateway_tls_handshakes_in_progress",): 1}),
    ([("handshake_began",), ("handshake_ended", None)], {}),
    (
        [("handshake_began",), ("handshake_ended", "timeout")],
        {("gateway_tls_handshakes_failed_total", "timeout"): 1},
    ),
    ([("admin_token_refused",)], {("gateway_admin_tokens_refused_total",): 1}),
    ([("cache_hit",)], {("gateway_cache_requests_total", "hit"): 1}),
    ([("cache_negative_hit",)], {("gateway_cache_requests_total", "negative_hit"): 1}),
    ([("cache_miss",)], {("gateway_cache_requests_total", "miss"): 1}),
    ([("served_stale",)], {("gateway_cache_served_stale_total",): 1}),
    (
        [("store_batch", 100, 0.002)],
        {
            ("gateway_store_lookups_total",): 100,
            ("gateway_store_batch_size_count",): 1,
            ("gateway_store_batch_size_sum",): 100,
            ("gateway_store_lookup_duration_seconds_count",): 1,
            ("gateway_store_lookup_duration_seconds_sum",): 0.002,
        },
    ),
    ([("store_failure",)], {("gateway_store_failures_total", "lookup"): 1}),
    ([("store_failure", "revoke")], {("gateway_store_failures_total", "revoke"): 1}),
    ([("malformed_document",)], {("gateway_store_malformed_documents_total",): 1}),
    (
        [("upstream_failed", "orders", "upstream_timeout", "silent")],
        {
            ("gateway_upstream_failures_total", "upstream_timeout", "orders"): 1,
            ("gateway_upstream_failure_causes_total", "silent", "orders"): 1,
        },
    ),
    ([("upstream_retried", "orders")], {("gateway_upstream_retries_total", "orders"): 1}),
    ([("token_recorded", "stored")], {("gateway_tokens_recorded_total", "stored"): 1}),
    ([("token_unrecorded", "syntax")], {("gateway_tokens_unrecorded_total", "syntax"): 1}),
    (
        [("token_recorded_without", "scope", "omitted")],
        {("gateway_tokens_recorded_without_total", "scope", "omitted"): 1},
    ),
    ([("tokens_revoked", 3)], {("gateway_tokens_revoked_total",): 3}),
    ([("foreign_revocation",)], {("gateway_foreign_revocations_total",): 1}),
    (
        [("watch_cache", "positive", lambda: 7, lambda: {"size": 2, "revoked": 3})],
        {
            ("gateway_cache_entries", "positive"): 7,
            ("gateway_cache_evictions_total", "positive", "size"): 2,
            ("gateway_cache_evictions_total", "positive", "revoked"): 3,
        },
    ),
    ([("stale_accept", "orders")], {("gateway_stale_accepts_total", "orders"): 1}),
    ([("watch_revoked", lambda: 4)], {("gateway_revoked_tokens_cached",): 4}),
    ([("watch_fast_lane", lambda: 6)], {("gateway_fast_lane_requests_total",): 6}),
    (
        [("exposure", 0.0), ("exposure", 90.0)],
        {
            ("gateway_exposure_seconds_count",): 2,
            ("gateway_exposure_seconds_sum",): 90,
        },
    ),
    (
        [("promise", {"a": 60.0, "b": 900.0}), ("exposure", 900.0), ("exposure", 901.0)],
        {
            ("gateway_exposures_beyond_bound_total",): 1,
            ("gateway_exposure_seconds_count",): 2,
            ("gateway_exposure_seconds_sum",): 1801,
            ("gateway_revocation_bound_seconds", "a"): 60,
            ("gateway_revocation_bound_seconds", "b"): 900,
        },
    ),
    (
        [("promise", {"gone": 1.0}), ("promise", {"orders": 900.0})],
        {("gateway_revocation_bound_seconds", "orders"): 900},
    ),
    (
        [("watch_feed", lambda: (True, 0.25))],
        {
            ("gateway_revocation_feed_up",): 1,
            ("gateway_revocation_feed_lag_seconds",): 0.25,
        },
    ),
]


def play(metrics: Metrics, acts: Acts) -> None:
    for method, *arguments in acts:
        getattr(metrics, method)(*arguments)


@pytest.mark.parametrize(("acts", "expected"), CASES)
def test_what_is_counted(acts: Acts, expected: dict[tuple[str, ...], float]) -> None:
    """Each event moves its own metrics, and no other."""
    metrics = Metrics()
    before = samples(metrics)
    play(metrics, acts)
    changed = {
        name: value
        for name, value in samples(metrics).items()
        if value != before.get(name, 0.0) and not name[0].endswith("_bucket")
    }
    assert expected == changed


@pytest.fixture
def busy() -> Metrics:
    """Metrics in which everything has happened once."""
    metrics = Metrics()
    for acts, _ in CASES:
        play(metrics, acts)
    return metrics


def families(metrics: Metrics) -> Iterator[Any]:
    for family in text_string_to_metric_families(metrics.render().decode()):
        if not family.name.endswith("_created"):
            yield family


def test_every_event_is_in_the_table() -> None:
    """The table above knows every public method that counts."""
    methods = {
        name for name, _ in inspect.getmembers(Metrics, inspect.isfunction) if name[0] != "_"
    }
    assert methods - {"render", "families", "of_doors"} == {
        method for acts, _ in CASES for method, *_ in acts
    }


def test_names_follow_the_conventions(busy: Metrics) -> None:
    """Names begin with gateway_, counters end in _total, durations are seconds, all have help."""
    for family in families(busy):
        assert family.name.startswith("gateway_")
        assert family.documentation
        assert family.type in {"counter", "gauge", "histogram"}
        for unit in ("milliseconds", "_ms", "_kb", "_minutes", "percent"):
            assert unit not in family.name
        if "duration" in family.name:
            assert family.name.endswith("_seconds")
        names = {sample.name for sample in family.samples}
        assert (family.type == "counter") == any(name.endswith("_total") for name in names)


def test_labels_are_few_and_known(busy: Metrics) -> None:
    """No label is one that could hold a token or a token key."""
    found = {label for family in families(busy) for s in family.samples for label in s.labels}
    assert found == LABELS
    assert not {name for name in found if "token" in name or "key" in name or "client" in name}


def test_evictions_are_a_counter_that_follows_the_cache() -> None:
    """Evictions are read from the caches whenever metrics are, as the counter that they are."""
    metrics = Metrics()
    evictions = {"positive": 1, "negative": 5}
    metrics.watch_cache("positive", lambda: 0, lambda: {"size": evictions["positive"]})
    metrics.watch_cache("negative", lambda: 0, lambda: {"size": evictions["negative"]})
    evictions["positive"] = 40
    found = {family.name: family for family in families(metrics)}["gateway_cache_evictions"]
    assert found.type == "counter"
    assert evictions == {sample.labels["cache"]: sample.value for sample in found.samples}


def test_build_info() -> None:
    """What is running is one line with value 1."""
    (build,) = [family for family in families(Metrics()) if family.name == "gateway_build_info"]
    (sample,) = build.samples
    assert (sample.value, sample.labels["version"]) == (1, __version__)


def test_registries_are_apart() -> None:
    """Two gateways in one process count apart."""
    first, second = Metrics(), Metrics()
    first.cache_hit()
    assert samples(second)["gateway_cache_requests_total", "hit"] == 0


def test_content_type() -> None:
    """The content type is that of the text format."""
    assert Metrics.content_type.startswith("text/plain; version=")
