"""The gateway while it changes and goes away: reload and drain, on real files, sockets and processes."""
