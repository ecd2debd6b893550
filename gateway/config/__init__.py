"""One YAML file, the environment and the flags, as one frozen `Config`; or every problem at once.

Rooms, in the order a setting travels:

- `document` YAML with positions · `overrides` variables and flags · `tree` values that know their place
- `model` the whole, made of `listeners`, `upstream`, `routes`, `limits`, `batch`, `asynchronous`, `dialects`, `replay`,
  `identity`; those of `section`, `units`, `secret`, `redis_url`
- `refusals` what pydantic refused, in our words · `rules`, `route_rules` what does not fit together, read off a `draft`
- `loading` all of it in turn · `effective` what is in force, with sources · `schema`, `shape` what may be written
- `changes` what a reload changes, and what only a restart can
"""

from gateway.config.asynchronous import Asynchronous
from gateway.config.changes import changed_keys, under_listeners_of, waiting_for_restart
from gateway.config.identity import ClientCert, Jwt
from gateway.config.limits import Limit, Limiter
from gateway.config.listeners import Listen
from gateway.config.loading import STANDARD_INPUT, Loaded, contents_of, effective, load
from gateway.config.model import Config
from gateway.config.problem import ConfigError, Problem
from gateway.config.routes import Route
from gateway.config.schema import json_schema
from gateway.config.secret import Secret
from gateway.config.section import Section
from gateway.config.units import Rate
from gateway.config.upstream import Tls, Upstream

__all__ = [
    "STANDARD_INPUT",
    "Asynchronous",
    "ClientCert",
    "Config",
    "ConfigError",
    "Jwt",
    "Limit",
    "Limiter",
    "Listen",
    "Loaded",
    "Problem",
    "Rate",
    "Route",
    "Secret",
    "Section",
    "Tls",
    "Upstream",
    "changed_keys",
    "contents_of",
    "effective",
    "json_schema",
    "load",
    "under_listeners_of",
    "waiting_for_restart",
]
