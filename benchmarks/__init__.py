"""unimsg beside the raw clients and FastStream, on real brokers, in one run: `python -m benchmarks --help`."""
