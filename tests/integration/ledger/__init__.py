"""The ledger on real servers of Redis and Valkey: what only such a store can get wrong."""
