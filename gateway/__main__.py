"""``python -m gateway`` is ``gateway``."""

from gateway.cli import main

main(prog_name="gateway")
