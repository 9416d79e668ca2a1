"""Run by .ci/run with the path of a wheel: it must hold our package and its world pack, and nothing else."""

import sys
import zipfile

LIMIT_MIB = 32

with zipfile.ZipFile(sys.argv[1]) as wheel:
    entries = wheel.infolist()
names = {entry.filename for entry in entries}
tops = {name.split("/")[0] for name in names}
strangers = {top for top in tops if top != "helios_world" and not top.endswith(".dist-info")}
wanted = [
    "helios_world/py.typed",
    "helios_world/envs/__init__.py",
    "helios_world/controllers/__init__.py",
    "helios_world/demos/cli.py",
    "helios_world/gateway/web/index.html",
    "helios_world/gateway/web/world.js",
    "helios_world/worlds/doom/world.json",
    "helios_world/worlds/doom/transformer.safetensors",
]
missing = [name for name in wanted if name not in names]
pack_mib = sum(e.file_size for e in entries if e.filename.startswith("helios_world/worlds/doom/")) / 2**20
print(f"wheel: {len(names)} files, pack doom {pack_mib:.1f} MiB")
if strangers or missing or pack_mib > LIMIT_MIB:
    sys.exit(f"wheel: strangers {sorted(strangers)}, missing {missing}, pack limit {LIMIT_MIB} MiB")
