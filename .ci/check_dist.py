"""The wheel holds the five packages and nothing else; the source distribution also has tests, docs and examples."""

import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGES = {"registry", "blocks", "assemblies", "plugins", "ganblocks"}
DATA = {str(path) for pattern in ("*.cpp", "*.h") for path in Path("blocks").rglob(pattern)}  # compiled where they run
DATA |= {"ganblocks/publishing/report.css"} | {f"{name}/py.typed" for name in PACKAGES}
ALSO = (
    "tests/blocks/test_conformance.py",
    "docs/architecture.md",
    "examples/build_custom_gan.py",
    "Makefile",
    "constraints.txt",
)

(folder,) = (Path(name) for name in sys.argv[1:])
(wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
held = zipfile.ZipFile(wheel).namelist()
tops = {name.partition("/")[0] for name in held}
strangers = {name for name in tops - PACKAGES if not name.endswith(".dist-info")}
assert PACKAGES <= tops, f"{wheel.name} has not {PACKAGES - tops}"
assert DATA, "no C++ source in blocks: run this in the root of the project"
assert set(held) >= DATA, f"{wheel.name} has not {DATA - set(held)}"
assert not strangers, f"{wheel.name} has {strangers} beside the packages"
names = {name.partition("/")[2] for name in tarfile.open(source).getnames()}
missing = [name for name in ALSO if name not in names]
assert not missing, f"{source.name} has not {missing}"
print(f"{wheel.name}: {', '.join(sorted(PACKAGES))}; {source.name}: {len(names)} files")
