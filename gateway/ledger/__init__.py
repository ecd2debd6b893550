"""The durable record of asynchronous batches.

port        what a store promises to callers and to workers
metered     its calls timed
files       callers' files beside the embedded ledger, sealed
names       who owns a batch, and what it is called
segments    operations and outcomes as bytes (pure)
seal        compressed and encrypted at rest
aead        the cipher, loaded when something is first sealed
sqlite      the embedded store: one file, one process
state_folder  whose the file is, the master key, and how far the file has come
clock       wall time that does not jump
redis       the store shared by replicas: both faces of the port, over
  redis_store        every call, checked before it leaves and remembered afterwards
  redis_durability   whether the servers can keep what they acknowledge
  redis_memory       what they acknowledged, should they go back in time
  redis_records      what the scripts answer as the port's values (pure)
  scripts            one Lua file per transition (lua/)
  keys               every key, and its slot (pure)
"""
