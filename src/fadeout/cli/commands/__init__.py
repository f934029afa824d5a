"""The subcommands of `fadeout`: one module each, with a `main`."""
