"""Runs in one Spark what would else start ten: bad inputs and their messages, and the rows of Parquet files."""

# pyright: reportMissingImports=false
import json
import sys
from pathlib import Path

asked = json.loads(Path(sys.argv[1]).read_text())
sys.path.insert(0, asked["src"])

import gbt  # noqa: E402
import transform  # noqa: E402
from job import InputError, start  # noqa: E402

spark, _ = start("cases")
for source, target, old, new in asked["renamed"]:
    renamed = spark.read.parquet(source).withColumnRenamed(old, new)
    renamed.coalesce(1).write.parquet(f"{target}.written")
    next(Path(f"{target}.written").glob("part-*")).rename(target)
answers = {}
for name, (program, arguments) in asked["runs"].items():
    sys.argv = [program, *arguments]
    try:
        {"transform": transform, "gbt": gbt}[program].main()
        answers[name] = "done"
    except InputError as error:
        answers[name] = str(error)
rows = {name: [list(row) for row in spark.read.parquet(path).collect()] for name, path in asked["parquet"].items()}
Path(asked["answers"]).write_text(json.dumps({"runs": answers, "rows": rows}))
spark.stop()
