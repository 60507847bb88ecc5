"""The revocation load tester: how long a revoked token lives, on any gateway, under load.

It knows gateways over HTTP alone. ``driver`` runs a plan and writes a record; ``analysis``,
``slo`` and ``report`` read records, do no I/O of their own, and need the extra ``loadtest``.
"""
