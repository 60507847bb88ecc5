"""What a run can fail with."""

from gateway.loadtest.errors import RunFailed


def test_a_failed_run_says_why() -> None:
    """Its message is the line to be shown."""
    assert str(RunFailed("can't connect to h:80: dns")) == "can't connect to h:80: dns"
