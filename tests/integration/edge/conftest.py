"""The same API and gateway as in the tests of the server."""

from tests.integration.server.conftest import api, plain

__all__ = ["api", "plain"]
