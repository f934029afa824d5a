"""The command line: configs in; results, tables and pictures out.

For `fadeout.api`: `compose`, from words to configs, and `console`, all text that is printed. The
subcommands are in `commands`; `app` is what `fadeout train` does.
"""
