package @package@;

import hex.genmodel.MojoModel;
import hex.genmodel.MojoReaderBackendFactory;
import hex.genmodel.MojoReaderBackendFactory.CachingStrategy;
import hex.genmodel.easy.EasyPredictModelWrapper;
import hex.genmodel.easy.RowData;
import hex.genmodel.easy.exception.PredictException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The model, ready to predict. Loads once, predicts row after row; not to be shared between threads.
 *
 * <p>A row is complete or refused: each column of {@link #columns()} is named, {@code null} where its value is unknown, and nothing
 * else is. A silent gap would be scored as a missing value, and be wrong quietly.
 */
public final class Predictor {
  private final EasyPredictModelWrapper model;
  private final Map<String, Column> columns = new LinkedHashMap<>();
  private final List<String> labels;
  private final double threshold;

  private Predictor(MojoModel mojo) {
    model = new EasyPredictModelWrapper(new EasyPredictModelWrapper.Config().setModel(mojo));
    for (int i = 0; i < mojo.nfeatures(); i++) {
      String[] levels = mojo.getDomainValues(i);
      String name = mojo.getNames()[i];
      columns.put(name, new Column(name, levels == null ? List.of() : List.of(levels)));
    }
    labels = List.copyOf(Arrays.asList(mojo.getDomainValues(mojo.getResponseIdx())));
    threshold = mojo._defaultThreshold;
  }

  /** Loads the model that this library carries. */
  public static Predictor load() {
    var resource = Predictor.class.getResource("model.zip");
    if (resource == null) {
      throw new IllegalStateException("this library carries no model.zip");
    }
    try {
      var backend = MojoReaderBackendFactory.createReaderBackend(resource, CachingStrategy.MEMORY);
      return new Predictor(MojoModel.load(backend));
    } catch (IOException e) {
      throw new UncheckedIOException("the model that this library carries cannot be read: " + e.getMessage(), e);
    }
  }

  /**
   * Predicts one row.
   *
   * @param row a value for each column: a {@link Number}, for a categorical column its text, or {@code null} if unknown
   * @throws IllegalArgumentException naming the column, if the row is not one the model was trained for
   */
  public Prediction predict(Map<String, ?> row) {
    var data = new RowData();
    for (Column column : columns.values()) {
      Object value = row.get(column.name());
      if (value == null) {
        if (!row.containsKey(column.name())) {
          throw new IllegalArgumentException("column " + column.name() + " is missing");
        }
        continue;
      }
      if (column.categorical()) {
        if (!(value instanceof String text) || !column.levels().contains(text)) {
          throw refused(column, value, "one of " + column.levels());
        }
        data.put(column.name(), text);
      } else {
        if (!(value instanceof Number number) || !Double.isFinite(number.doubleValue())) {
          throw refused(column, value, "a finite number");
        }
        data.put(column.name(), number.doubleValue());
      }
    }
    for (String name : row.keySet()) {
      if (!columns.containsKey(name)) {
        throw new IllegalArgumentException("column " + name + " is not one of the model's");
      }
    }
    try {
      var prediction = model.predictBinomial(data);
      return new Prediction(prediction.label, prediction.classProbabilities[1]);
    } catch (PredictException e) {
      throw new IllegalArgumentException(e.getMessage(), e);
    }
  }

  private static IllegalArgumentException refused(Column column, Object value, String wanted) {
    return new IllegalArgumentException("column " + column.name() + " is " + value + ", must be " + wanted);
  }

  /** The inputs, in the order of training. */
  public List<Column> columns() {
    return List.copyOf(columns.values());
  }

  /** The label that probabilities are of. */
  public String positive() {
    return labels.get(1);
  }

  /** Both labels: the negative, then the positive one. */
  public List<String> labels() {
    return labels;
  }

  /** The probability from which on the positive label is predicted. */
  public double threshold() {
    return threshold;
  }
}
