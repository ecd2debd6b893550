"""The batch endpoint: where it is, how much an envelope may hold, how it is run."""

from typing import Annotated

from pydantic import AfterValidator, Field

from gateway.config.routes import Template
from gateway.config.section import Section, Size, Timeout


def _prefix(path: str) -> str:
    if "{" in path or "*" in path:
        raise ValueError("must be a plain path, without {name} or **")
    if path.endswith("/"):
        raise ValueError("must be a path such as /batch, without a slash at the end")
    return path


Prefix = Annotated[Template, AfterValidator(_prefix)]


class Batch(Section):
    """What one envelope may hold and how it is run."""

    path: Prefix = Field(
        default="/batch", description="Prefix that the gateway owns; everything else belongs to the upstream."
    )
    operations_max: int = Field(default=1000, ge=1, le=100_000, description="Most operations of one envelope.")
    sync_operations_max: int = Field(
        default=100, ge=0, le=100_000, description="Up to here an envelope is answered at once; at most operations_max."
    )
    body_max: Size = Field(default=10 * 1024**2, description="Largest envelope.")
    operation_body_max: Size = Field(default=1024**2, description="Largest body of one operation.")
    depth_max: int = Field(default=32, ge=2, le=512, description="Deepest nesting of an envelope's JSON.")
    nodes_max: int = Field(default=1_000_000, ge=1, le=100_000_000, description="Most JSON values in an envelope.")
    concurrency: int = Field(default=10, ge=1, le=1000, description="Operations of one batch in flight at once.")
    in_flight_max: int = Field(
        default=500, ge=1, le=100_000, description="Batches that are answered at once and run now; more are 503."
    )
    in_flight_of_caller_max: int = Field(
        default=500,
        ge=1,
        le=100_000,
        description="The same, of one caller; those without credentials are one together.",
    )
    sync_timeout: Timeout = Field(default=30.0, description="Deadline of an envelope that is answered at once.")
    answer_max: Size = Field(default=64 * 1024**2, description="All answers of one batch together.")
    coalesce: bool = Field(
        default=False,
        description="Of identical GET, HEAD and OPTIONS in an envelope that is answered at once, one is sent for all.",
    )
    strict_routes: bool = Field(
        default=False, description="A path that no route allows refuses the whole envelope, not one operation."
    )
    operation_credentials: bool = Field(
        default=False, description="Operations may carry an Authorization, Cookie or identity header of their own."
    )
