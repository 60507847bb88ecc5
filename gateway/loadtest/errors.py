"""What a run can fail with."""


class RunFailed(Exception):
    """The run could not be made; the message is one line that says why, without secrets."""
