"""Gymnasium faces of a session. Importing this registers HeliosWorld-v0."""

if __name__ != "helios_world.envs":
    raise ImportError("import helios_world.envs, not envs")
