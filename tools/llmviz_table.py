"""What llmviz, the nearest tool, makes of the gallery's files: stored as llmviz.json.

The chapter on the gallery shows the table beside its own figures. llmviz is not needed
for the book, so it is not installed with it; run this where it is:

    python -m venv v && v/bin/pip install llmviz==0.1.1
    v/bin/python tools/llmviz_table.py

Each file goes through the functions behind its commands `inspect` and `fit`. A row is
what they return, untouched: bytes of cache a token, parameters, and the cache at a
context, which llmviz counts in 2^30 bytes and calls GB.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

GALLERY = Path(__file__).parents[1] / "code" / "attnbook" / "data" / "gallery"
CONTEXT = 131_072


def rows(folder, parse, report):
    """What the two functions return for each file of a folder: a list of dict.

    Args: folder, Path; parse, parse_config(dict, name) of llmviz; report,
    fit_report(spec, context) of llmviz.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        config = json.loads(path.read_text(encoding="utf-8"))
        try:
            spec = parse(config, path.stem)
            fit = report(spec, CONTEXT)[0]
        except (Exception, SystemExit) as error:  # it leaves by SystemExit, too
            found.append(dict(file=path.name, error=f"{type(error).__name__}: {error}"))
            continue
        found.append(
            dict(
                file=path.name,
                bytes_per_token=spec.kv_cache_per_token_bytes,
                gib_at_context=round(fit["kv_gb"], 4),
                parameters=spec.total_params,
                active_parameters=spec.active_params,
            )
        )
    return found


def main(out=GALLERY / "llmviz.json"):
    """Write the table; exit code 2 where llmviz is not installed."""
    try:
        from llmviz.fit import fit_report
        from llmviz.spec import parse_config
    except ModuleNotFoundError:
        print("llmviz is not installed here: see the head of this file")
        return 2
    table = dict(
        tool="llmviz",
        version=version("llmviz"),
        source="github.com/h9-tec/llmviz",
        context=CONTEXT,
        rows=rows(GALLERY / "configs", parse_config, fit_report),
    )
    out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
