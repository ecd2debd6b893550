"""The command line.

commands   serve, work, check, config, and those of quick
lean       importing the gateway without what nobody uses of its libraries
demo       an upstream, a gateway, a batch sent and printed
quick      healthcheck, drain, reload, version: for probes and hooks, without importing the gateway
"""
