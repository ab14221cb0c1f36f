"""The command line `unimsg`. Nothing of it is loaded by `import unimsg`; it needs the extra `cli`."""

import sys

__all__ = ["main"]

NEEDED = {"typer", "rich", "shellingham", "click"}
"""What the extra brings; `click` came with earlier versions of typer."""


def main() -> None:
    """Runs the command that the process was started with, and ends the process with its exit code."""
    try:
        from unimsg.cli.program import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in NEEDED:
            raise
        sys.stderr.write(f"unimsg: the command line needs {error.name}: pip install 'unimsg[cli]'\n")
        sys.exit(2)
    from unimsg.cli.logs import show_only_ours

    show_only_ours()
    app(prog_name="unimsg")
