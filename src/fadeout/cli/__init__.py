"""The command line: configs in; results, tables and pictures out."""
