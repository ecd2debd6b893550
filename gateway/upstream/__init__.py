"""The API behind us: one HTTP/1.1 client for batches and for forwarded traffic.

address     where an upstream listens, and how much of everything it gets
headers     which fields travel, in which direction (pure)
request     the bytes of an operation's request (pure)
exchange    one request and its answer, collected whole
waking      waiting for what callbacks bring
stream      the same, streamed both ways: what a forwarded request uses
plain       answers that need no parser (pure)
window      how much counters have grown of late (pure)
budget      how many extra sends the upstream gets (pure)
repeats     requests that are sent again: the retry law and the budget at work
breaker     when batches stop asking an upstream that fails (pure)
adaptive    how many operations of batches it gets at once (pure)
turns       whose turn it is among the batches: breaker and limit at work
sluice      whose turn it is to be read, among those who send much
intake      when more of what comes from an upstream is read
http1       one connection: bytes out, llhttp's events in
freshness   whether an idle connection may be used again
line        who waits for a connection: batches and forwarded requests each have their share
share       how many of one kind may be under way at once
stalls      answers that nobody reads, and which of them are ended (pure)
pool        connections to one upstream: reuse, limits, deadlines
upstream    one upstream as those who send to it see it
"""
