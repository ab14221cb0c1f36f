"""Where a broker's URL may hide a password, and how it is taken out before anything can show it."""

from urllib.parse import unquote, unquote_plus, urlsplit, urlunsplit


def split_password(url: str) -> tuple[str, str | None]:
    """The URL without its password, and the password: from before the host, or from the query.

    Raises:
        ValueError: it is no URL, or cannot be read for sure. The text shows nothing of it.
    """
    try:
        parts = urlsplit(url)
        hosts_of(url)
    except ValueError:  # its text may show the password
        raise ValueError("this is not a valid URL") from None
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":
        raise ValueError(
            "there is an @ behind the host: in a user name or password write / as %2F, ? as %3F, # as %23, and "
            "anywhere else @ as %40"
        )
    userinfo, at, hosts = parts.netloc.rpartition("@")
    user, colon, written = userinfo.partition(":")
    password = unquote(written) if colon else None
    query = parts.query.split("&")
    kept = [part for part in query if unquote_plus(part.partition("=")[0]) != "password"]
    if len(kept) < len(query):
        found = {unquote_plus(part.partition("=")[2]) for part in query if part not in kept}
        if password is not None or len(found) > 1:
            raise ValueError("there is more than one password in the URL")
        password = found.pop()
    if password is None:
        return url, None
    return urlunsplit(parts._replace(netloc=f"{user}{at}{hosts}", query="&".join(kept))), password


def hosts_of(url: str) -> list[str]:
    """The host names of a URL that may list several: h1:9092,h2:9092."""
    hosts = urlsplit(url).netloc.rpartition("@")[2].split(",")
    return [urlsplit(f"//{host}").hostname or "" for host in hosts]
