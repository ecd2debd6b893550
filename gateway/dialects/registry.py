"""Every vendor's dialect that is answered in place: the name of its section in the configuration, and what makes it."""

from collections.abc import Callable, Mapping

from gateway.dialects.facebook import Facebook
from gateway.dialects.google import Google
from gateway.dialects.graph import MicrosoftGraph
from gateway.dialects.port import Dialect

DIALECTS: Mapping[str, Callable[..., Dialect]] = {
    "google": Google,
    "facebook": Facebook,
    "graph": MicrosoftGraph,
}
