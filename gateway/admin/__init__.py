"""The second listener: health and metrics for all, configuration and drain for loopback or the token's holder."""
