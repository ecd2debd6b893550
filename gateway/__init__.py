"""batch-gateway: POST /batch in front of an existing HTTP API. The rooms, in the order in which a batch travels:

cli         the command line
app         builds what lives as long as the process, and serves
lifecycle   what a configuration decides, and how the gateway goes away
wiring      the configuration's values in the shape that each object wants
config      the YAML file, environment and flags -> one frozen Config
server      the HTTP face: batches, and everything else that passes through
dialects    wire formats: bytes into a batch, outcomes into bytes
admission   may this operation run: the same answer alone or in a batch
limiter     token buckets
worker      asynchronous batches: leases them from the ledger and runs them through the executor
executor    runs a batch; yields outcomes, keeps none
outbox      what has finished of a batch that runs, until it is taken
replay      idempotency keys: what a batch sent before is answered from what was kept
plan        a batch that was admitted, with all that running it takes
ledger      the durable record of asynchronous batches
redis_scripts  scripts that it runs in one step, for ledger, limiter and replay
redis_pipeline  calls to Redis that share one connection, for ledger, limiter and replay
redis_client  from a URL to a client of Redis or Valkey, for ledger, limiter and replay
upstream    the API behind us: HTTP/1.1 connections, reuse, deadlines, the retry law
batch       what a batch is and what may happen to it
admin       the second listener: health, metrics, configuration, drain
telemetry   metrics and logs: every name that operators see
errors      what can go wrong on purpose
version     the version
"""
