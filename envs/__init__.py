"""Gymnasium faces of a session. Importing this registers HeliosWorld-v0; `import helios_world` does so too."""

if __name__ != "helios_world.envs":
    raise ImportError("import helios_world.envs, not envs")

from gymnasium.envs.registration import register, registry

ENV_ID = "HeliosWorld-v0"

if ENV_ID not in registry:  # a reload must not warn
    register(ENV_ID, entry_point="helios_world.envs.world_env:HeliosWorldEnv")
