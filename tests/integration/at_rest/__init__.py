"""What a secret leaves behind on disks, in stores, logs and metrics.

scanning      a secret in the forms that it may take (pure)
test_secrets  every way of a request through the gateway, and then a look at all that it wrote
"""
