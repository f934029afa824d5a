"""python -m fadeout: the command without its script."""

from fadeout.cli.main import main

if __name__ == "__main__":
    main()
