"""Convert an adapter from Python: python examples/convert_adapter.py [ADAPTER]

The default is the one that examples/train.py makes.
"""

import sys

from convert import convert

adapter = sys.argv[1] if len(sys.argv) > 1 else "adapters/example"
for target in ("peft", "mlx", "gguf"):
    place = f"converted/{target}"
    report = convert(adapter, place, target, base="base_model", overwrite=True)
    print(f"{report['from']} -> {target}: {report['modules']} modules, {place}")
    for note in report["notes"]:
        print(f"  {note}")
