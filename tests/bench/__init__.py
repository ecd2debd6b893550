"""The gateway beside its peers in one run: CPU per operation, latency, memory, start. Run by `make bench`."""
