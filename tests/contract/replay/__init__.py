"""What a store of idempotency keys promises, on every store."""
