"""What a port promises, held against every adapter of it."""
