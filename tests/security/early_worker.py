"""A worker of `verify` that ends before it should, in the way that EARLY names."""

import json
import os
import signal
import sys
import time

HOW = os.environ["EARLY"]

print("\x1b[2Jlast words of", sys.argv[1], file=sys.stderr, flush=True)
if HOW == "exit":
    sys.exit(3)
if HOW == "import":
    import a_module_that_is_not_there  # type: ignore[import-not-found]  # noqa: F401
if HOW == "signal":
    os.kill(os.getpid(), signal.SIGKILL)
for line in sys.stdin:
    if HOW == "sleep":
        time.sleep(600)
    if HOW == "silence":
        os.close(1)
        time.sleep(600)
    if HOW == "garbage":
        print("::error::no answer", flush=True)
    elif json.loads(line)["do"] == "versions":
        print(json.dumps({"value": {"early": "1"}}), flush=True)
    else:
        print("a" * 100_000, "last words", file=sys.stderr, flush=True)
        sys.exit(4)
