"""A secret: given as `value`, `fromEnv` or `fromFile`, read at once, and never shown by repr, dump or error."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ConfigDict, Field, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from gateway.config.section import Section

HIDDEN = "[hidden]"
_BYTES_MAX = 64 * 1024  # a certificate chain fits; a log file given by mistake does not


class SecretReference(Section):
    """Where a secret comes from."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": [key]} for key in ("value", "fromEnv", "fromFile")]}
    )

    value: str | None = Field(
        default=None, description="The secret itself; better kept out of files that are shared.", examples=["s3cret"]
    )
    from_env: str | None = Field(
        default=None,
        alias="fromEnv",
        description="Name of the environment variable that holds it.",
        examples=["ADMIN_TOKEN"],
    )
    from_file: str | None = Field(
        default=None,
        alias="fromFile",
        description="Path of the file that holds it; one newline at the end is not part of it.",
        examples=["/run/secrets/admin-token"],
    )


@dataclass(frozen=True, slots=True)
class Secret:
    """The secret's text, to be taken out with `reveal()` only where it is compared or sent."""

    _text: str = field(repr=False)

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return HIDDEN

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_after_validator_function(
            _resolve,
            handler.generate_schema(SecretReference),
            serialization=core_schema.plain_serializer_function_ser_schema(repr),
        )


def _resolve(reference: SecretReference, info: ValidationInfo) -> Secret:
    given = [each for each in (reference.value, reference.from_env, reference.from_file) if each is not None]
    if len(given) != 1:
        raise ValueError("give exactly one of value, fromEnv and fromFile")
    if reference.from_env is not None:
        text = _from_environment(reference.from_env, info)
    elif reference.from_file is not None:
        text = _from_file(Path(reference.from_file))
    else:
        text = given[0]
    if not text:
        raise ValueError("the secret is empty")
    return Secret(text)


# The messages below name neither variable nor path: people put the secret itself there.


def _from_environment(name: str, info: ValidationInfo) -> str:
    environ: Mapping[str, str] = (info.context or {}).get("environ", {})
    if name not in environ:
        raise ValueError("fromEnv: no such environment variable")
    return environ[name]


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_BYTES_MAX + 1)
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("fromFile: the file is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise ValueError(f"fromFile: cannot be read ({reason or 'no valid path'})") from None
    if len(content) > _BYTES_MAX:
        raise ValueError("fromFile: larger than 64KiB; is this the right file?")
    return text.removesuffix("\n").removesuffix("\r")
