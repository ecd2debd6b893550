"""The command line.

commands   serve, check, config, healthcheck, version
demo       an upstream, a gateway, a batch sent and printed
quick      what probes run: answered without importing the gateway
"""
