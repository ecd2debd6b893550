"""batch-gateway."""
