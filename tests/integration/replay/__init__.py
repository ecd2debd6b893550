"""Idempotency keys over HTTP, on real stores, before a counting upstream."""
