"""The durable record of asynchronous batches.

port        what a store promises to callers and to workers
segments    operations and outcomes as bytes (pure)
seal        compressed and encrypted at rest
"""
