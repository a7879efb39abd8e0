"""Typed ports: what each service answers, apart from how a call reaches it (gRPC or a plain call)."""
