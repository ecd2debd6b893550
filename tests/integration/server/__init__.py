"""The HTTP face over real sockets: a gateway in this process, a raw client before it, a scripted API behind it.

api        the API behind the gateway
wire       a raw HTTP/1.1 client that neither adds nor hides anything
gateways   gateways started in this process
"""
