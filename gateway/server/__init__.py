"""The HTTP face, and with `admin` the only place that knows aiohttp.

connection   one caller's connection: looked after while it is slow, errors before any handler runs
reading      its bytes into requests: heads, bodies, trailers
heads        the head of a request: what is one, and which problem it is else (pure)
patience     how long a caller may be slow
edge         the front door: what every request must obey, and which way it goes
origin       where a request came from, and whom to believe about it
answer       answers written as bytes, exactly as given
problem      refusals as problem+json, and the page behind each problem type
envelope     an envelope's head and body, read up to the limit
batches      POST /batch and what stands under it
forwarding   everything else: through to the upstream as it came
tunnel       after a 101: bytes both ways
access       the access line and the numbers of a request
"""
