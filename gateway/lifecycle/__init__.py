"""How the gateway changes and goes away while it serves.

generation   everything that one configuration decides, and those that end only with their last request
drain        going away without losing a request
"""
