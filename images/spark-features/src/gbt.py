"""The lane's baseline: PySpark's gradient-boosted trees on the same features, judged on the test part.

Owns: the pipeline and its measures. Deliberately not: a stored model; the baseline is there to be compared with.
"""

# This image's own environment has them, the platform's has not:
# pyright: reportMissingImports=false
import numpy as np
from job import InputError, Parser, location, run, start
from metrics import measures
from pyspark.ml import Pipeline
from pyspark.ml.classification import GBTClassifier
from pyspark.ml.feature import StringIndexer, VectorAssembler
from pyspark.ml.functions import vector_to_array
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  as everybody calls it

NAME = "spark-gbt"
PARTS = ("train", "validation", "test")
OWN = ("held_out", "label", "features", "rawPrediction", "probability", "prediction")
"""Columns that the pipeline adds."""


def parser() -> Parser:
    """Build the command line."""
    built = Parser(prog="gbt.py", description="Train and judge the baseline.", allow_abbrev=False)
    built.add_argument("--features", required=True, metavar="URI", help="the output of transform.py")
    built.add_argument("--output", required=True, metavar="URI", help="folder for metrics.json")
    built.add_argument("--target", default="Purchase", help="the column to predict (default Purchase)")
    built.add_argument("--seed", default="42", help="0 to 2147483647 (default 42)")
    built.add_argument("--max-iter", default="20", help="most trees, 1 to 500; validation may stop before (default 20)")
    built.add_argument("--max-depth", default="4", help="deepest a tree may grow, 1 to 15 (default 4)")
    built.add_argument(
        "--partitions",
        default="1",
        help="of the rows; with more, runs are equal only up to rounding (default 1)",
    )
    return built


def main() -> None:
    """Run the program."""
    options = parser().parse_args()
    seed = _integer("--seed", options.seed, 0, 2**31 - 1)
    max_iter = _integer("--max-iter", options.max_iter, 1, 500)
    max_depth = _integer("--max-depth", options.max_depth, 1, 15)
    partitions = _integer("--partitions", options.partitions, 1, 10_000)
    output, features = location(options.output), location(options.features)
    spark, files = start(NAME, *(f"{features}/{part}.parquet" for part in PARTS), advice="run transform.py first")
    files.delete(f"{output}/metrics.json")
    parts = {part: spark.read.parquet(f"{features}/{part}.parquet") for part in PARTS}
    for part, rows in parts.items():
        if options.target not in rows.columns:
            raise InputError(f"{features}: {part}.parquet has no column {options.target!r}; name one with --target")

        if taken := [name for name in rows.columns if name in OWN or name.endswith(" index")]:
            raise InputError(f"{features}: {part}.parquet has the column {taken[0]!r}, which training adds; rename it")

    # Rows of the validation part say when to stop; the two stay apart by the mark.
    fit_on = parts["train"].withColumn("held_out", F.lit(False))
    fit_on = fit_on.unionByName(parts["validation"].withColumn("held_out", F.lit(True)))
    # Sums over partitions come in the order in which tasks end, and rounding with them.
    fit_on = fit_on.coalesce(partitions).cache()
    print(f"{fit_on.count()} rows to fit on, {len(fit_on.columns) - 2} columns", flush=True)
    model = _pipeline(parts["train"], options.target, seed, max_iter, max_depth).fit(fit_on)
    trees = model.stages[-1].getNumTrees
    probability = vector_to_array("probability").getItem(1)
    judged = model.transform(parts["test"]).select("label", probability.alias("p")).collect()
    found = measures(np.array([row["label"] for row in judged]), np.array([row["p"] for row in judged]))
    settings = {"seed": seed, "max_iter": max_iter, "max_depth": max_depth}
    facts = {"name": NAME, **found, "rows": len(judged), "trees": trees, "parameters": settings, "spark": spark.version}
    files.write_json(f"{output}/metrics.json", facts)
    print(f"{trees} trees, test AUC {found['auc']:.4f}, PR AUC {found['pr_auc']:.4f}", flush=True)


def _pipeline(train: DataFrame, target: str, seed: int, max_iter: int, max_depth: int) -> Pipeline:
    texts = [name for name, kind in train.dtypes if kind == "string" and name != target]
    numbers = [name for name, _ in train.dtypes if name not in (*texts, target)]
    indexed = [f"{name} index" for name in texts]
    # Alphabetical, so that the positive label is 1 whichever is the more frequent.
    stages = [StringIndexer(inputCol=target, outputCol="label", stringOrderType="alphabetAsc")]
    if texts:
        stages.append(
            StringIndexer(inputCols=texts, outputCols=indexed, handleInvalid="keep", stringOrderType="alphabetAsc")
        )
    assembler = VectorAssembler(inputCols=[*numbers, *indexed], outputCol="features")
    trees = GBTClassifier(
        maxIter=max_iter,
        maxDepth=max_depth,
        maxBins=64,
        stepSize=0.1,
        seed=seed,
        validationIndicatorCol="held_out",
        validationTol=1e-3,
    )
    return Pipeline(stages=[*stages, assembler, trees])


def _integer(name: str, text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
        raise InputError(f"{name}={text!r}: must be a whole number from {low} to {high}; nothing was trained")
    return int(text)


if __name__ == "__main__":
    run(NAME, main)
