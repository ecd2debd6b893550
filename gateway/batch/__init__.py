"""What a batch is and what may happen to it. Pure: no I/O, no clock, no framework.

model       batch, operation, outcome, summary
paths       the grammar of a path that two readers cannot understand differently
routes      templates compiled to one segment trie; first match wins
validation  every violation of a batch at once
retry       may a request be sent again: a pure decision
states      the life of an asynchronous batch, as a table
ordering    who waits for whom, and what a failure takes with it
references  values of earlier outcomes in a path, a field or a body
findings    what they find in the outcomes, read once and bounded
resolution  what such an operation becomes, judged anew
jsonpath    the part of JSONPath that references may use
agenda      what is left of a batch to send
coalescing  identical operations, of which one is sent
idempotency what an idempotency key looks like
"""
