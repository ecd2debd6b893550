"""The chart under two real helms, and the Dockerfile: what an operator installs."""
