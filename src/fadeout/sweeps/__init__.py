"""Many runs: indexed, split into chunks, trained here or by workers, stored and read again.

For other packages: `sweep.sweep` and `sweep.train_in_memory`; `distribute.distribute`;
`forecast.forecast`; `grids`; `reading.load`; of results `variables`, `joining` and `results`.
"""
