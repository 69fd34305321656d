"""Date keys of commands, from Python: python examples/extract_date_keys.py FASTTEXT [ADAPTER]

FASTTEXT is a folder of `livery fasttext train`; with ADAPTER the two answer together.
"""

import sys
from datetime import datetime

from livery.skills import date_keys

fasttext = sys.argv[1]
adapter = sys.argv[2] if len(sys.argv) > 2 else None
ready = date_keys.extractor(fasttext=fasttext, adapter=adapter)
for command in ("Call Bob in 25 minutes!", "wake me at 7 am tomorrow", "play some jazz"):
    found = ready(command)
    print(f"{command}: {', '.join(found.keys) or 'no key'} ({found.source})")
    for moment in date_keys.resolve_all(found.keys, datetime.now()):
        print(f"  {moment.start:%A %H:%M} to {moment.end:%A %H:%M}")
