"""Networks, alone or one per lane: activations, initialisers, tasks, optimisers, probes."""
