"""One run, from its config to its recorded history, as one compiled program.

For other packages: `resolve.resolve` and `resolve.identity`; `compile_groups.compile_group`, the
key of what can be trained side by side; `programs.train_group`, which trains; `fit.History`, what
comes out; `program_cache`; `snapshots.train_with_snapshots`.
"""
