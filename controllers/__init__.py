"""Whatever picks the next action: no windows, no sockets."""

if __name__ != "helios_world.controllers":
    raise ImportError("import helios_world.controllers, not controllers")
