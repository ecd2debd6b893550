"""The calls about asynchronous batches, over HTTP, on a real ledger and with the worker that `serve` runs."""
