"""The second listener: health and metrics for all, the rest for loopback or the token's holder."""
