"""Wire formats, one file each: bytes into a batch, outcomes into bytes. Pure.

port          what a dialect is
strictness    what every JSON envelope must obey: UTF-8, depth, size of numbers, no duplicate members
native        CONTRACT 2: JSON in, JSON or NDJSON out
schedule      when an asynchronous batch may begin
native_shape  what is wrong with a native envelope's members, each with its pointer: the slow path
tabular       outcomes as CSV
multistatus   the same outcomes as RFC 4918 XML
"""
