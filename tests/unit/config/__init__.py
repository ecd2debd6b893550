"""Tests of gateway/config, file for file."""
