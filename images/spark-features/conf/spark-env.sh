# For `--master local`, like all of this folder: Spark's scripts read it before they start Java.
# Java maps Spark's classes from an archive (src/classes.py makes it; without it they are loaded one by one), but not where
# a folder with files is on the classpath. Spark puts this one there, so its settings go as properties instead.
# Where Java keeps to the address that an archive was made for (relocation mode 0), it need not rewrite 180 MB of it.
# A step of seconds on one machine is over before the second compiler, or collecting garbage side by side, pays.
SPARK_SUBMIT_OPTS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Dlog4j2.configurationFile=file:$SPARK_CONF_DIR/log4j2.properties\
 -XX:+UnlockDiagnosticVMOptions -XX:ArchiveRelocationMode=0\
 ${SPARK_CLASSES:--XX:SharedArchiveFile=$SPARK_CONF_DIR/../target/classes.jsa} $SPARK_SUBMIT_OPTS"
while read -r name value; do
    case $name in spark.*) SPARK_SUBMIT_OPTS="$SPARK_SUBMIT_OPTS -D$name=$value" ;; esac
done <"$SPARK_CONF_DIR/spark-defaults.conf"
SPARK_CONF_DIR=$SPARK_CONF_DIR/none
SPARK_LAUNCHER_OPTS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
