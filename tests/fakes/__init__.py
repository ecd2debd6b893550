"""Stand-ins for the rest of the world, on loopback and under the test's command.

upstream    a server that answers raw bytes from a script and records what it was sent
until       waiting for what tells nobody
asking      the product's own upstream client, with an awaitable answer
"""
