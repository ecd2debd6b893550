"""Every vendor's dialect: the name of its section in the configuration, and what makes it.

`IN_PLACE` are answered in place, `ON_RECORD` are put on record and answered when they are asked about.
"""

from collections.abc import Callable, Mapping

from gateway.dialects.anthropic import Anthropic
from gateway.dialects.facebook import Facebook
from gateway.dialects.google import Google
from gateway.dialects.graph import MicrosoftGraph
from gateway.dialects.on_record import OnRecordDialect
from gateway.dialects.openai import OpenAI
from gateway.dialects.port import InPlaceDialect

IN_PLACE: Mapping[str, Callable[..., InPlaceDialect]] = {
    "google": Google,
    "facebook": Facebook,
    "graph": MicrosoftGraph,
}

ON_RECORD: Mapping[str, Callable[..., OnRecordDialect]] = {
    "anthropic": Anthropic,
    "openai": OpenAI,
}
