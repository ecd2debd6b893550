"""The same requests through a batch and directly: the answers must not differ."""
