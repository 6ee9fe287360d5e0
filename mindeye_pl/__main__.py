"""`python -m mindeye_pl` runs an experiment."""

import sys

from mindeye_pl.help import asks_for_help, help_text


def main() -> None:
    """Print the help, or run the command line."""
    if asks_for_help(sys.argv[1:]):
        print(help_text(sys.argv[1:]), end="")
        return
    from mindeye_pl.cli import main as run  # Hydra takes half a second

    run()


if __name__ == "__main__":
    main()
