"""`python -m unimsg.cli`: the same as `unimsg`."""

from unimsg.cli import main

if __name__ == "__main__":
    main()
