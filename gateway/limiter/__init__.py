"""Token buckets: who may spend how much, decided for a whole batch in one step.

port     what a store of buckets promises
bucket   the arithmetic (pure, whole microseconds)
memory   buckets of one replica
"""
