"""The registry: every section of the configuration has its dialect, made of that section's own settings."""

import inspect
from pkgutil import resolve_name

from gateway.config import Config
from gateway.config.dialects import Dialects
from gateway.config.shape import Keys, at
from gateway.dialects.registry import IN_PLACE, ON_RECORD


def test_every_dialect_has_a_section_and_every_section_a_dialect() -> None:
    assert {*IN_PLACE, *ON_RECORD} == set(Dialects.model_fields)


def test_a_dialect_is_made_of_the_settings_of_its_section_and_rules() -> None:
    for name, where in IN_PLACE.items():
        section = at(("dialects", name))
        assert isinstance(section, Keys)

        assert set(inspect.signature(resolve_name(where)).parameters) == {*section.each, "rules"}


def test_a_dialect_that_answers_later_is_made_of_its_settings_and_limits() -> None:
    for name, where in ON_RECORD.items():
        section = at(("dialects", name))
        assert isinstance(section, Keys)

        limits = {"rules", "depth_max", "nodes_max"}
        assert set(inspect.signature(resolve_name(where)).parameters) == {*section.each} | limits


def test_no_dialect_is_spoken_unless_its_section_stands() -> None:
    assert [section for _, section in Config().dialects if section is not None] == []
