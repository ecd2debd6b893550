"""Kill loops: processes are killed again and again; what is on record is compared with what was received.

plan        the batches of a run: half of their operations unsafe, some refused, with an order or without
upstream    a process that counts: what it received is on its disk before it answers
received    its log, as it is read
life        a worker's process, from start to SIGKILL; may be a broken build on purpose
broken      the broken builds
loop        starts, kills and starts again; gathers the evidence
replicas    gateways on one ledger, as processes
caller      a caller over HTTP that writes down what it was told
watcher     a reader of server-sent events that comes back with what it has seen
nemesis     kills gateways and their Redis while batches come in; gathers the evidence
checker     what the evidence says (pure)
"""
