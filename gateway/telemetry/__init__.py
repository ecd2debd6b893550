"""What operators see: every name of a metric and of a log field.

metrics   counts and distributions, exposed through prometheus_client
logs      structured logs, one access line an envelope or forwarded request
"""
