"""Every vendor's dialect: the name of its section in the configuration, and what makes it.

`DIALECTS` are answered in place, `LATER` are put on record and answered when they are asked about.
"""

from collections.abc import Callable, Mapping

from gateway.dialects.anthropic import Anthropic
from gateway.dialects.facebook import Facebook
from gateway.dialects.google import Google
from gateway.dialects.graph import MicrosoftGraph
from gateway.dialects.openai import OpenAI
from gateway.dialects.port import Dialect, LaterDialect

DIALECTS: Mapping[str, Callable[..., Dialect]] = {
    "google": Google,
    "facebook": Facebook,
    "graph": MicrosoftGraph,
}

LATER: Mapping[str, Callable[..., LaterDialect]] = {
    "anthropic": Anthropic,
    "openai": OpenAI,
}
