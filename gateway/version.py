"""The version of the gateway; pyproject.toml reads it from here."""

VERSION = "0.1.0"
