"""What a body may ask of its codec. Bytes are limited before (see `_bodies.MAX_RECEIVED_BODY`), but a few bytes can
stand for much more memory: these limit what the bytes stand for."""

MAX_DEPTH = 100
"""Values within values; the limit of Protobuf's own parsers."""

MAX_ITEMS = 250_000
"""Avro records, and items of arrays and maps. Each costs up to 400 bytes of Python objects."""

MAX_ELEMENTS = 50_000
"""XML elements and attributes. Each costs up to 2 kB of Python objects, and 20 µs."""

MAX_CONTAINERS = 500_000
"""JSON objects and lists: as many as fit into the largest body that unimsg itself sends."""
