"""What the gateway is measured against, and the upstream behind all of them."""
