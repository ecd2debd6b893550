"""The edge against hostile and slow callers."""
