"""Traffic that is no batch, beside what it is without the gateway; and the edge against hostile and slow callers.

raw          answers as they stand on the wire, and a caller that reads them
generated    requests and answers made from a seed
ambiguous    requests that two readers could understand differently
recorder     an upstream that reads requests by the narrowest grammar; whatever else comes is a breach
beside       nginx and haproxy, each before an upstream of its own
"""
