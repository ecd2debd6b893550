"""The upstream client over real sockets, against an upstream that does what a script says."""
