"""Requests and answers as bytes, a folder each: what clients send and what they must get, for every dialect."""
