package @package@;

/**
 * What the model says of one row.
 *
 * @param label the predicted label, by the threshold that the model was trained with
 * @param probability of the positive label, {@link Predictor#positive()}
 */
public record Prediction(String label, double probability) {}
