"""Programs: each module has `add_arguments(parser)` and `run(args) -> int`."""

if __name__ != "helios_world.demos":
    raise ImportError("import helios_world.demos, not demos")
