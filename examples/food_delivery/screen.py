"""What happens, line by line."""


def say(who: str, what: str) -> None:
    print(f"{who:9} {what}", flush=True)


def euros(cents: int) -> str:
    return f"€{cents / 100:.2f}"
