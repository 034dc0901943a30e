"""The gateway: member and operator sessions over ZeroMQ, market data, the client library, metrics."""
