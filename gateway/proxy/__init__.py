"""The traffic port: from a connection to a backend and back."""
