"""What is counted, for Prometheus.

Whoever counts sees a method named after the event, never the client library. No label ever
holds a token, a token key or anything else that a client can make up. What is counted on every
request is a plain number until metrics are read (``counts``): only the event loop's thread may
count, and read.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping

import aiohttp
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.clock import SystemClock
from gateway.counts import Count, Counts, Distribution, Distributions, Level

_DURATION_BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
_EXPOSURE_BUCKETS = (
    *(0.0, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0),
)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class _Evictions(Collector):
    """The caches' own counts, read when metrics are."""

    def __init__(self) -> None:
        self.by_cache: dict[str, Callable[[], Mapping[str, int]]] = {}

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "gateway_cache_evictions",
            "Tokens that have left each cache before their time, by cause.",
            labels=["cache", "cause"],
        )
        for name, evictions in self.by_cache.items():
            for cause, count in evictions().items():
                family.add_metric([name, cause], count)
        yield family


class _Feed(Collector):
    """The feed's own state, read when metrics are; nothing where there is no feed."""

    def __init__(self) -> None:
        self.read: Callable[[], tuple[bool, float]] | None = None

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if self.read is None:
            return
        up, lag_seconds = self.read()
        yield GaugeMetricFamily(
            "gateway_revocation_feed_up",
            "Whether revocations anywhere become known here.",
            value=float(up),
        )
        yield GaugeMetricFamily(
            "gateway_revocation_feed_lag_seconds",
            "How long ago the feed was last known to be complete.",
            value=lag_seconds,
        )


class _FastRequests(Collector):
    """The fast lane's own count, read when metrics are; nothing where there is no lane."""

    def __init__(self) -> None:
        self.read: Callable[[], int] | None = None

    def collect(self) -> Iterator[CounterMetricFamily]:
        if self.read is not None:
            yield CounterMetricFamily(
                "gateway_fast_lane_requests",
                "Requests answered without a task of their own.",
                value=self.read(),
            )


class Metrics:
    """The gateway's counters, in a registry of their own.

    ``wall`` tells when each was created, in epoch seconds.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, wall: Callable[[], float] = SystemClock.wall) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counts(
            "gateway_requests", "Requests by route and outcome.", ["route", "outcome"], wall=wall
        )
        registry.register(self._requests)
        self._duration = Distributions(
            "gateway_request_duration_seconds",
            "From the header section to the end of the answer.",
            ["route"],
            bounds=_DURATION_BUCKETS,
            wall=wall,
        )
        registry.register(self._duration)
        self._ended: dict[tuple[str, str], tuple[Count, Distribution]] = {}
        self._in_progress = Level("gateway_requests_in_progress", "Requests under way.")
        registry.register(self._in_progress)
        self._connections = Level("gateway_connections", "Client connections open.")
        registry.register(self._connections)
        self._count_doors(registry)
        lookups = Counts(
            "gateway_cache_requests",
            "Validations by what the cache knew: hit, negative_hit or miss.",
            ["result"],
            wall=wall,
        )
        registry.register(lookups)
        self._hit = lookups.at("hit")
        self._negative_hit = lookups.at("negative_hit")
        self._miss = lookups.at("miss")
        self._served_stale = Counter(
            "gateway_cache_served_stale",
            "Validations by facts beyond their max age, while the store was down.",
            registry=registry,
        )
        self._entries = Gauge(
            "gateway_cache_entries", "Tokens in each cache.", ["cache"], registry=registry
        )
        self._evictions = _Evictions()
        registry.register(self._evictions)
        self._feed = _Feed()
        registry.register(self._feed)
        self._fast_requests = _FastRequests()
        registry.register(self._fast_requests)
        self._stale_accepts = Counts(
            "gateway_stale_accepts",
            "Requests accepted by a token that was known to be revoked.",
            ["route"],
            wall=wall,
        )
        registry.register(self._stale_accepts)
        self._revoked_cached = Gauge(
            "gateway_revoked_tokens_cached",
            "Tokens known to be revoked that would be accepted now.",
            registry=registry,
        )
        self._exposure = Histogram(
            "gateway_exposure_seconds",
            "From a token's revocation until it was last accepted, once its facts serve no more.",
            buckets=_EXPOSURE_BUCKETS,
            registry=registry,
        )
        self._beyond_bound = Counter(
            "gateway_exposures_beyond_bound",
            "Exposures longer than any route's bound: a promise that was broken.",
            registry=registry,
        )
        self._longest_bound = float("inf")
        self._bound = Gauge(
            "gateway_revocation_bound_seconds",
            "The longest time for which a revoked token is accepted.",
            ["route"],
            registry=registry,
        )
        looked_up = Counts("gateway_store_lookups", "Tokens looked up in the store.", wall=wall)
        batch_size = Distributions(
            "gateway_store_batch_size",
            "Tokens in each lookup command.",
            bounds=_BATCH_BUCKETS,
            wall=wall,
        )
        store_duration = Distributions(
            "gateway_store_lookup_duration_seconds",
            "Time that each lookup command took.",
            bounds=_DURATION_BUCKETS,
            wall=wall,
        )
        for collector in (looked_up, batch_size, store_duration):
            registry.register(collector)
        self._looked_up = looked_up.at()
        self._batch_size = batch_size.at()
        self._store_duration = store_duration.at()
        self._store_failures = Counter(
            "gateway_store_failures",
            "Commands that the store didn't answer in time, or refused.",
            ["command"],
            registry=registry,
        )
        self._malformed = Counter(
            "gateway_store_malformed_documents",
            "Values in the store that aren't introspection documents.",
            registry=registry,
        )
        self._upstream_failures = Counter(
            "gateway_upstream_failures",
            "Upstream calls that failed, by route and outcome.",
            ["route", "outcome"],
            registry=registry,
        )
        self._upstream_failure_causes = Counter(
            "gateway_upstream_failure_causes",
            "The same calls, by route and by what the upstream did.",
            ["route", "cause"],
            registry=registry,
        )
        self._upstream_retries = Counter(
            "gateway_upstream_retries",
            "Requests sent again because an idle connection had closed.",
            ["route"],
            registry=registry,
        )
        self._recorded = Counter(
            "gateway_tokens_recorded",
            "Access tokens seen at the token endpoint, by whether the store has them.",
            ["result"],
            registry=registry,
        )
        self._unrecorded = Counter(
            "gateway_tokens_unrecorded",
            "Successes of the token endpoint whose access token isn't in the store, by reason.",
            ["reason"],
            registry=registry,
        )
        self._recorded_without = Counter(
            "gateway_tokens_recorded_without",
            "Access tokens recorded without a member that their key manager left open, by reason.",
            ["member", "reason"],
            registry=registry,
        )
        self._revoked = Counter(
            "gateway_tokens_revoked",
            "Tokens removed from the store by a revocation through this gateway.",
            registry=registry,
        )
        self._foreign_revocations = Counter(
            "gateway_foreign_revocations",
            "Revocations that the key manager accepted from another client than the token's, "
            "which stays.",
            registry=registry,
        )
        Info("gateway_build", "What is running.", registry=registry).info(
            {
                "version": __version__,
                "python": platform.python_version(),
                "aiohttp": aiohttp.__version__,
            }
        )

    def _count_doors(self, registry: CollectorRegistry) -> None:
        self._handshakes = Level(
            "gateway_tls_handshakes_in_progress", "TLS handshakes that haven't ended."
        )
        registry.register(self._handshakes)
        self._handshakes_failed = Counter(
            "gateway_tls_handshakes_failed",
            "TLS handshakes that made no connection, by reason.",
            ["reason"],
            registry=registry,
        )
        self._displaced = Counter(
            "gateway_connections_displaced",
            "Connections without a good token that were cut off to make room for others.",
            ["reason"],
            registry=registry,
        )
        self._accepts_failed = Counter(
            "gateway_accepts_failed",
            "Times that no connection could be accepted, for want of descriptors or memory.",
            registry=registry,
        )
        self._admin_refused = Counter(
            "gateway_admin_tokens_refused",
            "Calls of the admin API with a token that isn't admin.token.",
            registry=registry,
        )

    def render(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self._registry)

    def families(self) -> Iterable[Metric]:
        """Return all metrics as they stand, for the gateway's own page."""
        return self._registry.collect()

    def of_doors(self) -> Iterable[Metric]:
        """Return what is counted of the admin port, for a process that serves nothing else."""
        return [*self._accepts_failed.collect(), *self._admin_refused.collect()]

    def watch_cache(
        self,
        name: str,
        entries: Callable[[], int],
        evictions: Callable[[], Mapping[str, int]],
    ) -> None:
        """Show the size of a cache and what it has evicted, by cause, whenever metrics are read."""
        self._entries.labels(name).set_function(entries)
        self._evictions.by_cache[name] = evictions

    def watch_feed(self, read: Callable[[], tuple[bool, float]]) -> None:
        """Show whether the feed is up and its lag in seconds, whenever metrics are read."""
        self._feed.read = read

    def watch_fast_lane(self, taken: Callable[[], int]) -> None:
        """Show how many requests the fast lane took, whenever metrics are read."""
        self._fast_requests.read = taken

    def watch_revoked(self, count: Callable[[], int]) -> None:
        """Show how many revoked tokens still pass, whenever metrics are read."""
        self._revoked_cached.set_function(count)

    def promise(self, bounds: Mapping[str, float]) -> None:
        """Show the bound in seconds of each route, and of no others."""
        self._longest_bound = max(bounds.values(), default=0.0)
        self._bound.clear()
        for route, seconds in bounds.items():
            self._bound.labels(route).set(seconds)

    def stale_accept(self, route: str) -> None:
        """A request was accepted by a token known to be revoked."""
        self._stale_accepts.at(route).value += 1

    def exposure(self, seconds: float) -> None:
        """The facts of a revoked token stopped serving, ``seconds`` after they last did."""
        self._exposure.observe(seconds)
        if seconds > self._longest_bound:
            self._beyond_bound.inc()

    def request_started(self) -> None:
        """A request's header section is here."""
        self._in_progress.value += 1

    def request_ended(self, route: str, outcome: str, seconds: float) -> None:
        """A request was answered, or given up, ``seconds`` after it started."""
        self._in_progress.value -= 1
        ended = self._ended.get((route, outcome))
        if ended is None:
            ended = (self._requests.at(route, outcome), self._duration.at(route))
            self._ended[route, outcome] = ended
        requests, duration = ended
        requests.value += 1
        duration.observe(seconds)

    def connection_opened(self) -> None:
        """A client connected."""
        self._connections.value += 1

    def connection_closed(self) -> None:
        """A client's connection is gone."""
        self._connections.value -= 1

    def connection_displaced(self, reason: str) -> None:
        """A connection without a good token was cut off for others: "memory", "connections"."""
        self._displaced.labels(reason).inc()

    def accept_failed(self) -> None:
        """No connection could be accepted for want of a descriptor, or of memory."""
        self._accepts_failed.inc()

    def handshake_began(self) -> None:
        """A connection was accepted that has a TLS handshake before it."""
        self._handshakes.value += 1

    def handshake_ended(self, failure: str | None) -> None:
        """It is done, or failed: "tls", "gone", "timeout", "displaced" or "full"."""
        self._handshakes.value -= 1
        if failure is not None:
            self._handshakes_failed.labels(failure).inc()

    def admin_token_refused(self) -> None:
        """Somebody gave the admin API a token that isn't its own."""
        self._admin_refused.inc()

    def cache_hit(self) -> None:
        """Facts were found young enough."""
        self._hit.value += 1

    def cache_negative_hit(self) -> None:
        """The token was known to be no good."""
        self._negative_hit.value += 1

    def cache_miss(self) -> None:
        """The store has to be asked."""
        self._miss.value += 1

    def served_stale(self) -> None:
        """Facts older than max age were relied on, because the store is down."""
        self._served_stale.inc()

    def store_batch(self, size: int, seconds: float) -> None:
        """A command brought ``size`` answers in ``seconds``."""
        self._looked_up.value += size
        self._batch_size.observe(size)
        self._store_duration.observe(seconds)

    def store_failure(self, command: str = "lookup") -> None:
        """A command failed: "lookup", "record" or "revoke"."""
        self._store_failures.labels(command).inc()

    def malformed_document(self) -> None:
        """A value in the store isn't an introspection document."""
        self._malformed.inc()

    def upstream_failed(self, route: str, outcome: str, cause: str) -> None:
        """An upstream was unreachable, late, or made no sense; ``cause`` as in ``causes``."""
        self._upstream_failures.labels(route, outcome).inc()
        self._upstream_failure_causes.labels(route, cause).inc()

    def upstream_retried(self, route: str) -> None:
        """A request was sent again on another connection."""
        self._upstream_retries.labels(route).inc()

    def token_recorded(self, result: str) -> None:
        """A token passed the token endpoint: "stored", "retried", "revoked" or "lost"."""
        self._recorded.labels(result).inc()

    def token_unrecorded(self, reason: str) -> None:
        """An answer of the token endpoint can't be recorded: a ``token_response.Reason``."""
        self._unrecorded.labels(reason).inc()

    def token_recorded_without(self, member: str, reason: str) -> None:
        """A token's "scope" or "client_id" isn't known."""
        self._recorded_without.labels(member, reason).inc()

    def foreign_revocation(self) -> None:
        """The key manager accepted a revocation by another client than the token's."""
        self._foreign_revocations.inc()

    def tokens_revoked(self, count: int) -> None:
        """A revocation removed ``count`` tokens from the store."""
        self._revoked.inc(count)
