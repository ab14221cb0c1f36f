"""Help with misspelt names."""

from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """ ", did you mean …?" for a misspelt name; the list of what there is for any other."""
    import difflib  # only needed where something is wrong already

    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(known)}" if known else ""
