"""`python -m mindeye_pl` runs an experiment."""

from mindeye_pl.cli import main

if __name__ == "__main__":
    main()
