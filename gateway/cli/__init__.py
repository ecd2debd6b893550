"""The command line.

commands   serve, work, check, config, and those of quick
demo       an upstream, a gateway, a batch sent and printed
quick      healthcheck, drain, reload, version: for probes and hooks, without importing the gateway
"""
