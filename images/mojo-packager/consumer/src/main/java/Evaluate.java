import @package@.Column;
import @package@.Prediction;
import @package@.Predictor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.apache.commons.csv.CSVFormat;
import org.apache.commons.csv.CSVRecord;

/** Predicts every row of a CSV file through the library, and prints the metrics of its predictions as JSON. */
public final class Evaluate {
  /** As the platform's other lane has it, so that their numbers compare. */
  private static final double EPSILON = 1e-7;

  private static final int BINS = 10;

  private Evaluate() {}

  record Row(boolean positive, Prediction prediction) {
    double probability() {
      return prediction.probability();
    }
  }

  /** Wants the CSV file and the target column. */
  public static void main(String[] args) throws IOException {
    var predictor = Predictor.load();
    List<Row> rows;
    try {
      rows = predict(predictor, Path.of(args[0]), args[1]);
    } catch (IllegalArgumentException e) {
      System.err.println(e.getMessage());
      System.exit(2);
      return;
    }
    System.out.println(metrics(rows, predictor));
  }

  private static List<Row> predict(Predictor predictor, Path file, String target) throws IOException {
    var format = CSVFormat.DEFAULT.builder().setHeader().setSkipHeaderRecord(true).get();
    List<Row> rows = new ArrayList<>();
    try (var parser = format.parse(Files.newBufferedReader(file))) {
      for (String needed : predictor.columns().stream().map(Column::name).toList()) {
        require(parser.getHeaderMap().containsKey(needed), "has no column " + needed);
      }
      require(parser.getHeaderMap().containsKey(target), "has no column " + target);
      for (CSVRecord record : parser) {
        String at = "line " + (record.getRecordNumber() + 1) + ": ";
        require(record.isConsistent(), at + "not as many values as columns");
        String label = record.get(target);
        require(predictor.labels().contains(label), at + target + " is " + label + ", must be one of " + predictor.labels());
        Map<String, Object> row = new HashMap<>();
        for (Column column : predictor.columns()) {
          String text = record.get(column.name());
          row.put(column.name(), text.isEmpty() ? null : column.categorical() ? text : number(text, at + column.name()));
        }
        rows.add(new Row(label.equals(predictor.positive()), predictor.predict(row)));
      }
    }
    long positives = rows.stream().filter(Row::positive).count();
    require(positives > 0 && positives < rows.size(), "needs rows of both labels, has " + positives + " positive of " + rows.size());
    return rows;
  }

  private static double number(String text, String where) {
    try {
      return Double.parseDouble(text);
    } catch (NumberFormatException e) {
      throw new IllegalArgumentException(where + " is " + text + ", must be a number");
    }
  }

  private static void require(boolean condition, String otherwise) {
    if (!condition) {
      throw new IllegalArgumentException(otherwise);
    }
  }

  private static String metrics(List<Row> rows, Predictor predictor) {
    var falling = new ArrayList<>(rows);
    falling.sort(Comparator.comparingDouble(Row::probability).reversed());
    double positives = rows.stream().filter(Row::positive).count();
    double negatives = rows.size() - positives;
    double area = 0;
    double averagePrecision = 0;
    double truePositives = 0;
    double falsePositives = 0;
    for (int from = 0; from < falling.size(); ) {
      double before = truePositives;
      double beforeFalse = falsePositives;
      double at = falling.get(from).probability();
      // Rows of equal probability stand at one threshold: they count together.
      for (; from < falling.size() && falling.get(from).probability() == at; from++) {
        if (falling.get(from).positive()) {
          truePositives++;
        } else {
          falsePositives++;
        }
      }
      area += (falsePositives - beforeFalse) * (before + truePositives) / 2;
      averagePrecision += (truePositives - before) / positives * truePositives / (truePositives + falsePositives);
    }
    double logLoss = 0;
    double brier = 0;
    int[] confusion = new int[4];
    for (Row row : rows) {
      double p = Math.min(1 - EPSILON, Math.max(EPSILON, row.probability()));
      logLoss -= Math.log(row.positive() ? p : 1 - p);
      brier += Math.pow(row.probability() - (row.positive() ? 1 : 0), 2);
      boolean said = row.prediction().label().equals(predictor.positive());
      confusion[said ? row.positive() ? 0 : 1 : row.positive() ? 3 : 2]++;
    }
    return String.format(
        Locale.ROOT,
        "{\"rows\": %d, \"positives\": %d, \"auc\": %s, \"pr_auc\": %s, \"log_loss\": %s, \"brier\": %s, \"calibration\": [%s], "
            + "\"confusion\": {\"threshold\": %s, \"tp\": %d, \"fp\": %d, \"tn\": %d, \"fn\": %d}}",
        rows.size(), (long) positives, area / positives / negatives, averagePrecision, logLoss / rows.size(), brier / rows.size(),
        calibration(falling), predictor.threshold(), confusion[0], confusion[1], confusion[2], confusion[3]);
  }

  /** Bins of about equally many rows, from the least to the most probable: what was predicted on average, and what happened. */
  private static String calibration(List<Row> falling) {
    var rising = new ArrayList<>(falling);
    Collections.reverse(rising);
    List<String> bins = new ArrayList<>();
    for (int bin = 0; bin < BINS; bin++) {
      var rows = rising.subList(edge(bin, rising.size()), edge(bin + 1, rising.size()));
      if (!rows.isEmpty()) {
        double predicted = rows.stream().mapToDouble(Row::probability).average().orElseThrow();
        double observed = (double) rows.stream().filter(Row::positive).count() / rows.size();
        bins.add(
            "{\"from\": " + rows.get(0).probability() + ", \"to\": " + rows.get(rows.size() - 1).probability()
                + ", \"rows\": " + rows.size() + ", \"predicted\": " + predicted + ", \"observed\": " + observed + "}");
      }
    }
    return String.join(", ", bins);
  }

  private static int edge(int bin, int count) {
    return (int) Math.round((double) bin * count / BINS);
  }
}
