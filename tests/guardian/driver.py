"""Runs in MicroPython: one JSON request a line, one JSON answer a line. How the tests call the guardian's modules.

    {"module": M, "function": F, "args": [...]}               -> {"result": ...}
    {"module": M, "class": C, "args": [...], "calls": [[method, args], ...]} -> {"result": [answer of each call]}

{"$": "legend"} as an argument stands for the legend in force, {"$": "rows"} for its rows.
"""

import json
import sys


def _legend():
    import files
    import pattern

    return pattern.Legend(files.value(HERE + "/legend.json", 65536))


def _argument(value):
    if isinstance(value, dict) and "$" in value:
        return _legend() if value["$"] == "legend" else _legend().rows
    return value


def answer(line):
    """One request as text, its answer as text."""
    try:
        request = json.loads(line)
        module = __import__(request["module"])
        args = [_argument(value) for value in request.get("args", [])]
        if "function" in request:
            return json.dumps({"result": getattr(module, request["function"])(*args)})
        made = _legend() if request["class"] == "Legend" else getattr(module, request["class"])(*args)
        done = []
        for name, rest in request["calls"]:
            done.append(getattr(made, name)(*[_argument(value) for value in rest]))
        return json.dumps({"result": done})
    except Exception as error:  # noqa: BLE001 -- told to the test, which fails
        return json.dumps({"error": repr(error)})


HERE = sys.argv[1] if len(sys.argv) > 1 else "/guardian"
sys.path.insert(0, HERE)

if __name__ == "__main__" and len(sys.argv) > 1:
    while True:
        asked = sys.stdin.readline()
        if not asked:
            break
        print(answer(asked))
