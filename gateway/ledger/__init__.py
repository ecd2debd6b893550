"""The durable record of asynchronous batches.

port        what a store promises to callers and to workers
segments    operations and outcomes as bytes (pure)
seal        compressed and encrypted at rest
sqlite      the embedded store: one file, one process
state_folder  whose the file is, the master key, and how far the file has come
clock       wall time that does not jump
"""
