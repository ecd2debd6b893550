"""How the gateway changes and goes away while it serves.

generation   everything that one configuration decides, and those that end only with their last request
vendors      which vendors' batches are spoken
callers      who callers are, and what verifies that
counting     where buckets are counted: here, or in a Redis that replicas share
keeping      the ledger and its worker, kept whatever configurations come
keyring      the store of idempotency keys, opened when a key is first used
reload       when the configuration is read anew, and what becomes of it
report       what the admin pages tell of a reload
drain        going away without losing a request
"""
