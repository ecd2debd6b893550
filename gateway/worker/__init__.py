"""Runs asynchronous batches: leases slices of them, sends their operations through the executor, records what became.

worker      leases, renews, sweeps; starts and stops
running     one leased slice from its first operation to its last word
handover    what a batch had on its way when it was put on record
floor       who may run beside whom
hold        how long a lease may be trusted, by our own clock
intents     what may have been sent, announced before
settled     what has its outcome: counted, and on its way to the ledger
recorder    outcomes on their way to the ledger, in groups
opened      what was sealed, ready to run
decision    what to do with a lease and with an outcome (pure)
claims      the idempotency keys of a slice
ordered     a slice whose operations wait for each other
means       what the configuration gives to a slice
tokens      what of a slice is admitted in one step
pauses      upstreams that asked a caller for a pause
"""
