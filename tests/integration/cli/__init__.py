"""The command line and the admin listener, as a process of its own."""
