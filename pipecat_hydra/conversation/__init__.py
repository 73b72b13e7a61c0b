"""The pure core: what is said between a pipeline and Hydra, without I/O, tasks or a clock."""
