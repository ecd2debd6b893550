"""The embedded ledger: one SQLite file, one process, durable by default.

store       the port's two faces, on two threads
opening     the file made ready, and older copies of it refused
committer   transactions by the group, one thread a connection
life        a batch from acceptance to its end
turns       whose slice is leased next
work        what workers put on record, and what the clock does
reading     views, parts and health
"""
