"""An async OAuth 2.0 gateway whose revocation window is chosen, bounded, seen and measured."""

from importlib.metadata import version

__all__ = ["__version__"]

__version__ = version("revocation-gateway")
