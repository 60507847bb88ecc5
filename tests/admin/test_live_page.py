"""The live page in a browser, in front of a whole gateway.

The longest a test waits for is a revoked token's lapse, for which the window is made short.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from browser import Page, browsing
from pydantic import SecretStr

from gateway.app import Gateway
from gateway.demo.backend import serving_backend
from gateway.settings import Admin, Cache, Listen, RouteSettings, Settings, Store
from gateway.tokens import token_key

RAW = "raw-t0ken-of-alice"
