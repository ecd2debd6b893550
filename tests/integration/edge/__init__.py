"""Traffic that is no batch, beside what it is without the gateway; and the edge against hostile and slow callers.

raw          answers as they stand on the wire, and a caller that reads them
generated    requests and answers made from a seed
"""
