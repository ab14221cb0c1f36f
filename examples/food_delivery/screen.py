"""What happens, line by line."""


def say(who: str, what: str) -> None:
    """In one write: handlers in threads speak too."""
    print(f"{who:9} {what}\n", end="", flush=True)


def euros(cents: int) -> str:
    return f"€{cents / 100:.2f}"
