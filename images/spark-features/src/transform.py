"""Raw objects in, features out: areas and customers joined, cleaned, and split into train, validation and test.

Owns: what a clean row is, which part it belongs to, and that a folder with `features.json` holds all of it.
Deliberately not: encodings, which belong to whoever trains. The split is that of the platform's other lane: by a hash
of a row's attributes and nothing else, so that rows alike stay together and both lanes hold out the same customers.
"""

# This image's own environment has them, the platform's has not:
# pyright: reportMissingImports=false
import hashlib
import json
import platform
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from job import Files, InputError, Parser, location, run, start
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812  as everybody calls it
from pyspark.sql.types import StringType, StructField, StructType
from raw import BLANKS, Raw, look

NAME = "spark-features"
SCHEMA = json.loads((Path(__file__).parent / "schema.json").read_text())
TARGET, LABELS = SCHEMA["target"]["name"], [SCHEMA["target"]["negative"], SCHEMA["target"]["positive"]]
ATTRIBUTES = [attribute["name"] for attribute in SCHEMA["attributes"]]
BOUNDS = {"train": 0.7, "validation": 0.85, "test": 1.0}
SAFE = 2**53 - 1
# No column of a file is called so: blanks around a name are left out.
MALFORMED = " malformed"


def parser() -> Parser:
    """Build the command line."""
    built = Parser(prog="transform.py", description="Join, clean and split the raw objects.", allow_abbrev=False)
    built.add_argument(
        "--areas", required=True, metavar="URI", help="CSV with a header: Id and the attributes of areas"
    )
    built.add_argument(
        "--customers", required=True, metavar="URI", help=f"CSV: Id, Area, the customers' attributes, {TARGET}"
    )
    built.add_argument(
        "--output", required=True, metavar="URI", help="folder for the parts; what it held of them is replaced"
    )
    built.add_argument(
        "--max-dropped", default="0.05", help="largest share of rows that cleaning may drop (default 0.05)"
    )
    return built


def main() -> None:
    """Run the program."""
    options = parser().parse_args()
    try:
        limit = float(options.max_dropped)
    except ValueError:
        limit = -1
    if not 0 <= limit <= 1:
        raise InputError(f"--max-dropped={options.max_dropped!r}: must be a number from 0 to 1")
    output = location(options.output)
    sources = {"areas": location(options.areas), "customers": location(options.customers)}
    spark, files = start(NAME, *sources.values(), advice="push the raw data first")
    raws, joined, report = clean(spark, files, sources)
    _check_dropped(report, limit)
    rows = split(joined).cache()
    scratch, new = f"{output}/.parts", not files.exists(output)
    try:
        # Written before it is known whether the rows will do: both take a core.
        with ThreadPoolExecutor(1) as beside:
            written = beside.submit(_write, rows, scratch)
            summary, lost = _summary(rows)
            report["customers"] |= {"without_area": lost, "kept": report["customers"]["kept"] - lost}
            _check_dropped(report, limit)
            _check_labels(summary)
            written.result()
        for name, counts in report.items():
            told = f" ({_reasons(counts)})" if _reasons(counts) else ""
            print(f"{name}: {counts['read']} read, {counts['kept']} kept{told}", flush=True)
        for name in ("features.json", "schema.json", *(f"{part}.parquet" for part in BOUNDS)):
            files.delete(f"{output}/{name}")
        for part in BOUNDS:
            files.move_only_file(f"{scratch}/part={part}", f"{output}/{part}.parquet")
            print(f"{part}: {summary['rows'][part]} rows, {summary['positives'][part]} {LABELS[1]}", flush=True)
    except BaseException:
        files.delete(output if new else scratch)
        raise
    files.delete(scratch)
    columns = [{"name": name, "type": "integer"} for name in ATTRIBUTES] + [{"name": TARGET, "type": "string"}]
    target = {"name": TARGET, "negative": LABELS[0], "positive": LABELS[1]}
    files.write_json(f"{output}/schema.json", {"target": target, "columns": columns})
    described = {name: {"uri": raw.uri, "sha256": raw.sha256, "size": raw.size} for name, raw in raws.items()}
    java = spark._jvm.java.lang.System.getProperty("java.version")  # type: ignore[union-attr]
    tools = {"spark": spark.version, "java": java, "python": platform.python_version()}
    facts = {**summary, "split": BOUNDS, "sources": described, "cleaning": report, "tools": tools}
    files.write_json(f"{output}/features.json", facts)
    print(f"{output}: {sum(summary['rows'].values())} rows, digest {summary['row_digest'][:12]}", flush=True)


def clean(
    spark: SparkSession, files: Files, sources: dict[str, str]
) -> tuple[dict[str, Raw], DataFrame, dict[str, dict[str, int]]]:
    """Read, clean and join the raw objects; give their files, the rows (`values`, `label`), and what became of each.

    A customer without its area is among the rows: its `values` are null.

    Attributes travel as one array: Spark plans and runs each column of a plan by itself, which for 85 takes longer
    than the work.

    Raises:
      InputError: A file is no such object, or an id stands for two different records.
    """
    own = {kind: [a["name"] for a in SCHEMA["attributes"] if a["object"] == kind] for kind in ("area", "customer")}
    # Side by side: most of it is planning, which keeps one core busy.
    with ThreadPoolExecutor(2) as pool:
        area_object = pool.submit(_object, spark, files, sources["areas"], ["Id"], own["area"])
        customer_object = pool.submit(
            _object, spark, files, sources["customers"], ["Id", "Area"], own["customer"], TARGET
        )
        area_file, areas, area_counts = area_object.result()
        customer_file, customers, counts = customer_object.result()
    areas = areas.select(F.col("Id").alias("Area"), F.col("values").alias("area_values"))
    joined = customers.join(areas, "Area", "left")
    rows = joined.select(F.concat("area_values", "values").alias("values"), F.col(TARGET).alias("label"))
    raws = {"areas": area_file, "customers": customer_file}
    return raws, rows, {"areas": area_counts, "customers": counts}


def split(rows: DataFrame) -> DataFrame:
    """Add each row's attributes as `text`, their hash as `key`, and the `part` that this places it in (null: none)."""
    text = F.array_join(F.col("values").cast("array<string>"), ",")
    place = F.conv(F.substring("key", 1, 8), 16, 10).cast("double") / 2**32
    part = F.when(place < BOUNDS["train"], "train").when(place < BOUNDS["validation"], "validation")
    part = part.when(place.isNotNull(), "test")
    return rows.withColumn("text", text).withColumn("key", F.sha2("text", 256)).withColumn("part", part)


def ordered(rows: DataFrame) -> DataFrame:
    """Give the rows in one partition, part by part, in an order that depends on nothing but the rows."""
    return rows.coalesce(1).sortWithinPartitions("part", "key", "label")


def _write(rows: DataFrame, folder: str) -> None:
    columns = [F.col("values")[at].alias(name) for at, name in enumerate(ATTRIBUTES)]
    content = ordered(rows).select("part", *columns, F.col("label").alias(TARGET))
    content.write.mode("overwrite").partitionBy("part").parquet(folder)


def _object(
    spark: SparkSession, files: Files, uri: str, ids: list[str], attributes: list[str], target: str | None = None
) -> tuple[Raw, DataFrame, dict[str, int]]:
    """Read one raw object: its file, the good records, typed, and how many were dropped for which reason."""
    wanted = [*ids, *attributes, *([target] if target else [])]
    with closing(files.open(uri)) as stream:
        raw = look(uri, stream)
    header = raw.header
    missing = [name for name in wanted if name not in header]
    if missing:
        names = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise InputError(f"{uri}: lacks the column{'s' if len(missing) > 1 else ''} {names}")
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        raise InputError(f"{uri}: has more than one column {', '.join(twice)}")
    if extra := [name for name in header if name and name not in wanted]:
        print(f"{uri}: left out: {', '.join(extra[:10])}", flush=True)
    names = [name or f" {place}" for place, name in enumerate(header)]
    schema = StructType([StructField(name, StringType()) for name in (*names, MALFORMED)])
    rows = spark.read.options(**raw.options).csv(uri, schema, columnNameOfCorruptRecord=MALFORMED)
    outer_names = [*ids, *([target] if target else [])]
    outer = [_trim(F.col(f"`{name}`")).alias(name) for name in outer_names]
    texts = F.transform(F.array(*(F.col(f"`{name}`") for name in attributes)), _trim)
    records = rows.select(*outer, texts.alias("texts"), F.col(f"`{MALFORMED}`").alias("malformed"))
    records = records.withColumn("values", F.transform("texts", _integer))
    problem = (
        F.when(F.col("malformed").isNotNull(), "malformed")
        .when(F.exists(F.concat(F.array(*outer_names), "texts"), lambda text: text.isNull() | (text == "")), "null")
        .when(F.exists("values", lambda value: value.isNull() | ~value.between(-SAFE, SAFE)), "not_an_integer")
    )
    if target:
        problem = problem.when(~F.col(target).isin(LABELS), "unknown_label")
    # One group for each record: more than one content means that an id stands for different records.
    content = F.struct(*outer_names, "values")
    group = records.withColumn("problem", problem).groupBy("problem", "Id")
    judged = group.agg(
        F.count("*").alias("rows"), F.min(content).alias("record"), (F.min(content) != F.max(content)).alias("differ")
    ).cache()
    told = judged.groupBy("problem").agg(
        F.sum("rows").alias("rows"),
        F.count("*").alias("records"),
        F.min(F.when(F.col("differ"), F.col("Id"))).alias("conflict"),
    )
    found = {row["problem"]: row for row in told.collect()}
    good = found.get(None)
    if good and good["conflict"]:
        raise InputError(
            f"{uri}: the Id {good['conflict']} stands for different records; give each its own, and push the new file"
        )
    kept = good["records"] if good else 0
    reasons = ("malformed", "null", "not_an_integer", *(["unknown_label"] if target else []))
    counts = {reason: found[reason]["rows"] if reason in found else 0 for reason in reasons}
    read = sum(row["rows"] for row in found.values())
    if read != raw.records or counts["malformed"] != raw.malformed:
        raise RuntimeError(
            f"{uri}: has {raw.records} rows, and Spark read {read}, {counts['malformed']} of them malformed; "
            "it may have changed meanwhile, nothing was written"
        )
    counts = {"read": read, **counts, "repeated": read - sum(counts.values()) - kept, "kept": kept}
    return raw, judged.filter("problem is null").select("record.*"), counts


def _trim(text: Column) -> Column:
    return F.btrim(text, F.lit(BLANKS))


def _integer(text: Column) -> Column:
    """Give the whole number that a text is (`3`, `-3`, `3.0`), or null."""
    whole = F.regexp_extract(text, r"^([+-]?[0-9]+)(\.0*)?$", 1)
    return whole.try_cast("bigint")


def _check_dropped(report: dict[str, dict[str, int]], limit: float) -> None:
    for name, counts in report.items():
        # A record that stands twice is no loss.
        lost = counts["read"] - counts["kept"] - counts["repeated"]
        if not counts["kept"] or lost > limit * counts["read"]:
            raise InputError(
                f"{name}: {lost} of {counts['read']} rows had to be dropped ({_reasons(counts) or 'none was there'}), "
                f"more than --max-dropped={limit:g} allows; nothing was written"
            )


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(
        f"{count} {reason}" for reason, count in counts.items() if reason not in ("read", "kept") and count
    )


def _check_labels(summary: dict[str, Any]) -> None:
    for part, count in summary["rows"].items():
        for label, held in ((LABELS[0], count - summary["positives"][part]), (LABELS[1], summary["positives"][part])):
            if not held:
                raise InputError(
                    f"the {part} part has no row with {TARGET} {label}; give more data. Nothing was written"
                )


def _summary(rows: DataFrame) -> tuple[dict[str, Any], int]:
    """Count each part, and digest the rows in the order in which they are written; also how many are in none."""
    counts, positives, lost = dict.fromkeys(BOUNDS, 0), dict.fromkeys(BOUNDS, 0), 0
    digests = {part: hashlib.sha256() for part in BOUNDS}
    for part, label, text in ordered(rows).select("part", "label", "text").toLocalIterator():
        if part is None:
            lost += 1
            continue
        counts[part] += 1
        positives[part] += label == LABELS[1]
        digests[part].update(f"{text},{label}\n".encode())
    hexes = {part: digest.hexdigest() for part, digest in digests.items()}
    whole = hashlib.sha256("".join(f"{part} {value}\n" for part, value in hexes.items()).encode()).hexdigest()
    return {"rows": counts, "positives": positives, "row_digest": whole, "row_digests": hexes}, lost


if __name__ == "__main__":
    run(NAME, main)
