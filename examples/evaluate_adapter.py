"""Score an adapter beside its base, from Python: python examples/evaluate_adapter.py [ADAPTER]

The default is the one that examples/train.py makes: it has seen too little to be good.
"""

import sys

from eval import Request, evaluate

adapter = sys.argv[1] if len(sys.argv) > 1 else "adapters/example"
record = evaluate(Request("date-keys", adapter=adapter, baseline=True, limit=20))
for name, arm in record["arms"].items():
    low, high = arm["interval"]
    print(f"{name:<20} {arm['accuracy']:6.1%}  (95 % interval {low:.1%} to {high:.1%})")
