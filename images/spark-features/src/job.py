"""What both programs of the image share: the Spark session, files wherever Spark can reach, and how a program ends.

Owns: how `gs://` is reached, on Google Cloud and on an emulator. Deliberately not: what is computed.
"""

# This image's own environment has them, the platform's has not:
# pyright: reportMissingImports=false
import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

# spark-submit puts PySpark's sources, zipped, before the installed package: Python would compile them at every start.
sys.path.sort(key=lambda place: place.endswith(("/pyspark.zip", "-src.zip")))

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession


class InputError(Exception):
    """Bad input or a definite no; the message is one line for people. The program exits with 2."""


class Parser(argparse.ArgumentParser):
    """Answers a wrong command line as every other wrong input is answered."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line."""
        raise InputError(f"{message}; see {self.prog} --help")


def run(name: str, main: Callable[[], None]) -> NoReturn:
    """Run a program to its exit code; the last line of stderr is its message."""
    code, message = 0, ""
    try:
        main()
    except InputError as error:
        code, message = 2, str(error)
    except Py4JJavaError as error:
        code, message = 1, _java_reason(error)
    except (PySparkException, Py4JError) as error:
        code, message = 1, str(error).strip().splitlines()[0]
    except KeyboardInterrupt:
        code, message = 130, "interrupted"
    except Exception as error:  # noqa: BLE001  whatever happened, people get a line, not a traceback
        code, message = 1, f"{type(error).__name__}: {error}"
    if active := SparkSession.getActiveSession():
        # Python's own stop waits, for up to half a second, for its server of accumulators too, which nothing here uses.
        active.sparkContext._jsc.stop()
    if message:
        _say(f"{name}: {' '.join(message.split())[:600]}")
    sys.exit(code)


def _say(line: str) -> None:
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        print(line, file=sys.stderr, flush=True)
        return
    # spark-submit hands on both outputs of its Python as standard output, so the JVM has to say it.
    sys.stdout.flush()
    jvm: Any = (SparkContext._gateway or launch_gateway()).jvm
    jvm.java.lang.System.err.println(line)


def _java_reason(error: Py4JJavaError) -> str:
    cause = error.java_exception
    while cause.getCause() is not None:
        cause = cause.getCause()
    return str(cause.toString()).splitlines()[0]


def start(name: str, *inputs: str, advice: str = "") -> tuple[SparkSession, "Files"]:
    """Start Spark, with the settings of `spark-submit`; meanwhile, see whether the inputs are there.

    Raises:
      InputError: One is not; `advice` ends its message.
    """
    SparkContext._ensure_initialized()
    jvm: Any = SparkContext._jvm
    builder = SparkSession.builder.appName(name).config("spark.sql.caseSensitive", "true")
    # As Spark itself is about to make it: file systems are made once, and so with the settings of whoever comes first.
    conf = jvm.org.apache.spark.deploy.SparkHadoopUtil.get().newConfiguration(jvm.org.apache.spark.SparkConf(True))
    for key, value in gcs_settings(os.environ.get("STORAGE_EMULATOR_HOST", "")).items():
        builder = builder.config(f"spark.hadoop.{key}", value)
        conf.set(key, value)
    files = Files(jvm, conf)
    with ThreadPoolExecutor(2) as beside:
        there = beside.submit(lambda: [files.is_file(uri) for uri in inputs])
        # What every session needs and makes only when its context has started: half a second.
        beside.submit(jvm.scala.reflect.runtime.package.universe)
        spark = builder.getOrCreate()
        for uri, found in zip(inputs, there.result(), strict=True):
            if not found:
                raise InputError(f"{uri}: no such file; {advice}")
    return spark, files


def gcs_settings(emulator: str) -> dict[str, str]:
    """Give the GCS connector's settings: Google's own storage, with the pod's identity, or an emulator's address."""
    settings = {
        "fs.gs.impl": "com.google.cloud.hadoop.fs.gcs.GoogleHadoopFileSystem",
        # A third of all requests: whether a name is both a file's and a folder's, and objects that stand for folders.
        "fs.gs.create.items.conflict.check.enable": "false",
        "fs.gs.implicit.dir.repair.enable": "false",
    }
    if emulator:
        address = emulator if "://" in emulator else f"http://{emulator}"
        settings |= {
            "fs.gs.storage.root.url": address.rstrip("/") + "/",
            "fs.gs.auth.type": "UNAUTHENTICATED",
            # fake-gcs-server knows neither storageLayout nor moveTo; without them the connector copies and deletes.
            "fs.gs.hierarchical.namespace.folders.enable": "false",
            "fs.gs.operation.move.enable": "false",
            # To list a folder it looks through the whole bucket, so that is asked for only where there is no such file.
            "fs.gs.status.parallel.enable": "false",
        }
    return settings


def location(text: str) -> str:
    """Give a path or URI without a closing slash, if it is one.

    Raises:
      InputError: It is none, or where nobody should be made to read: Hadoop would also fetch from web servers.
    """
    # Spark would take the brackets for patterns.
    if (
        not re.fullmatch(r"(gs://[a-z0-9][a-z0-9._-]+/|file:///|[^:*?{}\[\]\\]?)[^:*?{}\[\]\\]+", text)
        or not text.isprintable()
    ):
        raise InputError(f"{text!r}: must be a path, file:///... or gs://bucket/..., without any of *?{{}}[]\\")
    return text.rstrip("/") or "/"


class Files:
    """Files and folders by URI, through Hadoop's file systems: what Spark itself reads and writes by."""

    def __init__(self, jvm: Any, conf: Any) -> None:
        self._jvm, self._conf = jvm, conf

    def _at(self, uri: str) -> tuple[Any, Any]:
        path = self._jvm.org.apache.hadoop.fs.Path(uri)
        try:
            return path.getFileSystem(self._conf), path
        except Py4JJavaError as error:
            if "ClassNotFoundException" in _java_reason(error):
                raise InputError(
                    f"{uri}: the GCS connector is not on Spark's classpath; see SPARK_DIST_CLASSPATH"
                ) from None
            raise

    def exists(self, uri: str) -> bool:
        """Whether there is a file or a folder."""
        system, path = self._at(uri)
        return bool(system.exists(path))

    def is_file(self, uri: str) -> bool:
        """Whether there is a file."""
        system, path = self._at(uri)
        return bool(system.exists(path) and system.getFileStatus(path).isFile())

    def open(self, uri: str) -> Any:
        """Open a file: give Java's stream of its bytes.

        Raises:
          InputError: Cloud Storage keeps it packed.
        """
        system, path = self._at(uri)
        try:
            return system.open(path)
        except Py4JJavaError as error:
            if "GZIP" in _java_reason(error):
                raise InputError(
                    f"{uri}: is packed by gzip (Content-Encoding), and only plain files are read"
                ) from None
            raise

    def delete(self, uri: str) -> None:
        """Delete a file or a folder with all in it; nothing happens where there is none."""
        system, path = self._at(uri)
        system.delete(path, True)

    def write_json(self, uri: str, value: Any) -> None:
        """Write a JSON document."""
        system, path = self._at(uri)
        stream = system.create(path, True)
        stream.write(bytearray((json.dumps(value, indent=1) + "\n").encode()))
        stream.close()
        self._drop_crc(system, path)

    def move_only_file(self, folder: str, target: str) -> None:
        """Move the one data file that Spark wrote into a folder to a name of its own."""
        system, path = self._at(folder)
        (found,) = [at.getPath() for at in system.listStatus(path) if at.getPath().getName().startswith("part-")]
        _, to = self._at(target)
        system.delete(to, False)
        if not system.rename(found, to):
            raise OSError(f"{target}: cannot be written")
        self._drop_crc(system, to)

    @staticmethod
    def _drop_crc(system: Any, path: Any) -> None:
        # Hadoop keeps checksums beside local files, where nobody else expects them.
        if system.getScheme() == "file":
            system.delete(path.getParent().suffix(f"/.{path.getName()}.crc"), False)
