"""Versions of what is installed."""

from importlib.metadata import PackageNotFoundError, version


def unimsg_version() -> str:
    """Of this package; "unknown" where it runs from its sources alone."""
    try:
        return version("unimsg")
    except PackageNotFoundError:
        return "unknown"
