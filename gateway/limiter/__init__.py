"""Token buckets: who may spend how much, decided for a whole batch in one step.

port     what a store of buckets promises
bucket   the arithmetic (pure, whole microseconds)
http     what it decided, in HTTP's words (pure)
memory   buckets of one replica
redis    buckets of all replicas (take.lua)
fallback what limits do while their store is away
"""
