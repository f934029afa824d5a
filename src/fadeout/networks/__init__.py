"""Networks, alone or one per lane.

For other packages: the tables and decorators of `activations`, `initializers`, `tasks`, `losses`,
`optimizers` and `probes`; `model.MLP`; `layers.Layer`, which a probe is given; `lanes` and
`stacks`, the memory layout; `jaxprs`, which reads traced programs; `inspection.inspect_network`.
"""
