"""The rounds: in each, every gateway is measured once in each case, in an order that rotates."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from peers import Gateway, NotHere, Peer, Scene

from rig import idle, probe
from rig.cases import Case
from rig.figures import Sample
from rig.load import Load, Outcome, run
from rig.processes import Process
from rig.revoked import mark
from rig.scene import Surroundings, authorizer

MIB = 1024 * 1024
WARM_UP_REQUESTS = 1000


class Field:
    """The gateways that run, and what is measured of them."""

    def __init__(self, around: Surroundings, folder: Path) -> None:
        self.around = around
        self.folder = folder
        self.running: dict[str, Gateway] = {}
        self.missing: dict[str, str] = {}
        self._scenes: dict[str, Scene] = {}
        self._authorizers: dict[str, Process] = {}
        self._warm: set[tuple[str, str]] = set()

    def enter(self, peers: Sequence[Peer], stack: ExitStack) -> None:
        """Start gateways; those that don't start or answer wrongly are missing."""
        for peer in peers:
            try:
                scene = self._scene(peer, stack)
                gateway = stack.enter_context(peer.running(scene, self.folder / peer.name))
                probe.wait(gateway)
                wrong = probe.faults(peer, gateway)
                if peer.marks and not wrong:
                    mark(gateway, self.around)
            except NotHere as absent:
                self.missing[peer.name] = f"missing: {absent}"
            except (RuntimeError, OSError) as fault:
                self.missing[peer.name] = "failed: " + " ".join(str(fault).split())[:200]
            else:
                if wrong:
                    self.missing[peer.name] = "failed: " + "; ".join(wrong)
                else:
                    self.running[peer.name] = gateway

    def _scene(self, peer: Peer, stack: ExitStack) -> Scene:
        scene = self.around.scene
        if peer.asks != "never":
            scene, process = stack.enter_context(
                authorizer(scene, self.folder / f"{peer.name}-authorizer")
            )
            self._authorizers[peer.name] = process
        self._scenes[peer.name] = scene
        return scene

    def rounds(
        self, cases: Sequence[Case], peers: Sequence[Peer], count: int, seconds: float
    ) -> Iterator[Sample]:
        """Measure all gateways in all cases, ``count`` times."""
        for number in range(count):
            for case in cases:
                taking = [
                    peer for peer in peers if peer.name in self.running and case.takes_part(peer)
                ]
                start = number % len(taking) if taking else 0
                for peer in taking[start:] + taking[:start]:
                    yield self.measure(case, peer, number, seconds)

    def measure(self, case: Case, peer: Peer, number: int, seconds: float) -> Sample:
        """Measure one gateway once; a sample with a fault where its answers are wrong."""
        sample = Sample(case.name, peer.name, number)
        try:
            if case.idle:
                return self._held(case, peer, sample)
            return self._loaded(case, peer, sample, seconds)
        except (RuntimeError, OSError) as fault:
            return replace(sample, fault=" ".join(str(fault).split())[:200])

    def _held(self, case: Case, peer: Peer, sample: Sample) -> Sample:
        # A gateway that has just started: in an older one connections find memory of earlier ones.
        folder = self.folder / f"{peer.name}-idle-{sample.round}"
        with peer.running(self._scenes[peer.name], folder) as gateway:
            probe.wait(gateway)
            # One connection: of more than one, memory would be left that the held ones use again.
            self._send(Load(stop=WARM_UP_REQUESTS, seconds=10, connections=1), gateway)
            grown = idle.bytes_a_connection(gateway, case.idle)
            memory = gateway.process.memory_bytes()
        return replace(sample, connection_kib=grown / 1024, memory_mib=memory / MIB)

    def _loaded(self, case: Case, peer: Peer, sample: Sample, seconds: float) -> Sample:
        gateway = self.running[peer.name]
        load = case.in_round(peer, sample.round, seconds)
        self._warm_up(case, peer, gateway, load)
        around = self.around
        processes = [gateway.process, around.redis, around.backend]
        if peer.name in self._authorizers:
            processes.append(self._authorizers[peer.name])
        before = [process.processor_seconds() for process in processes]
        came = self._send(load, gateway)
        used = [
            (process.processor_seconds() - earlier) * 1e6 / max(came.requests, 1)
            for process, earlier in zip(processes, before, strict=True)
        ]
        return replace(
            sample,
            requests_a_second=came.requests / came.seconds,
            requests=came.requests,
            cpu=used[0],
            cpu_with_authorizer=used[0] + sum(used[3:]),
            redis_cpu=used[1],
            backend_cpu=used[2],
            p50_ms=came.p50 * 1e3,
            p99_ms=came.p99 * 1e3,
            longest_ms=came.longest * 1e3,
            memory_mib=gateway.process.memory_bytes() / MIB,
            fault=came.fault,
        )

    def _warm_up(self, case: Case, peer: Peer, gateway: Gateway, load: Load) -> None:
        """Let a gateway connect to all it needs, and once see all tokens that are to be hot."""
        if (case.name, peer.name) in self._warm:
            return
        self._warm.add((case.name, peer.name))
        if case.warm_all:
            first, count = load.tokens
            # Once around and a little more: those that were under way at the end don't matter.
            around = replace(load, seconds=240, stop=count + 2 * load.connections)
            self._send(replace(around, tokens=(first, count)), gateway)
        else:
            stop = WARM_UP_REQUESTS if not case.load.answer_bytes else 2 * load.connections
            tokens = (0, 1) if case.is_cold(peer) else load.tokens
            self._send(replace(load, tokens=tokens, stop=stop, seconds=10), gateway)

    def _send(self, load: Load, gateway: Gateway) -> Outcome:
        port = gateway.tls_port if load.tls else gateway.port
        return run(load, port, self.around.tokens, self.around.scene.processors[1])
