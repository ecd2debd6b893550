"""Sending again is safe: what an idempotency key stands for, and what became of it (CONTRACT 3).

port     what a store of keys promises
names    whose key it is, and for which request: keyed digests (pure)
law      what an outcome means for its key (pure)
kept     outcomes, and whole answers, as the sealed bytes that keys keep
sqlite   keys of one replica: a file, or memory
redis    keys shared by replicas, in Redis or Valkey: one Lua script a transition
watched  a store of keys whose trouble is known
keyed    the keys of one batch: what is answered at once, and what the others leave on record
replay   claims the keys of a batch before it runs, and settles them as its outcomes come
envelopes  keys of whole envelopes, and what was answered under them
"""
