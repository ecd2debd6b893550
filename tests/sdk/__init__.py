"""Vendors' own Python clients, from the registry and unchanged, against a gateway before a vendor's plain API."""
