"""The HTTP face, and with `admin` the only place that knows aiohttp.

listening    whoever connects: how many, who of them is too slow, how they all go
connection   one caller's connection: looked after while it is slow, errors before any handler runs
steps        serving a request without a task, until it needs one
reading      its bytes into requests: heads, bodies, trailers
heads        the head of a request: what is one, and which problem it is else (pure)
patience     how long a caller may be slow
edge         the front door: what every request must obey, and which way it goes
callers      who sent a request: by fields, by a verified token, by a forwarded certificate
tokens       signed tokens, verified and remembered
key_set      the public keys of their issuer
client_cert  who a forwarded certificate is of (pure)
origin       where a request came from, and whom to believe about it
answer       answers written as bytes, exactly as given
problem      refusals as problem+json, and the page behind each problem type
terms        what an envelope's fields come to, remembered from one to the next
envelope     an envelope's head and body, read up to the limit
preferences  what a caller prefers of the answer (pure)
promotion    a batch whose time in place is up goes on record
in_flight    how many batches are answered in place at once
aside        large work, in a thread that gives way to the loop
in_place     the path of every batch that is answered in place: its body, its admission, its outcomes
batches      POST /batch and what stands under it
once         envelopes that are answered once, however often they are sent
vendors      vendors' batches, wherever their dialects are mounted
monitors     their batches whose callers prefer to come back for the answer
vendor_batches those that are answered later, kept in the same custody
vendor_files the files that such batches are made of, and their results as files
vendor_record a batch on record as dialects are told of it
form_file    a file in a form, written as it comes
deadline     a batch whose time is up (pure)
dry_run      what would become of a batch (pure)
limits_page  every limit of a caller (pure)
asynchronous the calls about batches on record, in the gateway's own words
custody      what those calls do, for their callers only
submission   putting a batch on record
records      batches on record, read for their callers
retrying     which operations a retry runs again
batch_status a batch on record as callers see it (pure)
results      the results of a batch on record, in three forms
events       server-sent events of a batch on record
chunks       a body that is written piece by piece
clock        the two clocks that these calls read
forwarding   everything else: through to the upstream as it came
relay        one that is whole, and so is its answer: neither waits for anything else
passage      any other forwarded request on its way, and its answer on the way back
upload       a forwarded request's body on its way up
tunnel       after a 101: bytes both ways
access       the access line and the numbers of a request
"""
