package @package@;

import static org.junit.jupiter.api.Assertions.fail;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

/** Replays the predictions of training time: the library is released only if it says the same. */
class ExamplesTest {
  private static final double TOLERANCE = 1e-9;

  @Test
  void everyExampleIsPredictedAsAtTrainingTime() throws IOException {
    JsonObject recorded;
    try (var in = new InputStreamReader(ExamplesTest.class.getResourceAsStream("examples.json"), StandardCharsets.UTF_8)) {
      recorded = JsonParser.parseReader(in).getAsJsonObject();
    }
    var predictor = Predictor.load();
    var examples = recorded.getAsJsonArray("examples");
    int differing = 0;
    double largest = 0;
    String first = null;
    for (int i = 0; i < examples.size(); i++) {
      var example = examples.get(i).getAsJsonObject();
      double probability = example.get("prediction").getAsDouble();
      String label = example.get("label").getAsString();
      Prediction said;
      try {
        said = predictor.predict(Score.row(example.get("input")));
      } catch (IllegalArgumentException e) {
        fail("example " + (i + 1) + " of " + examples.size() + " cannot be predicted: " + e.getMessage());
        return;
      }
      double difference = Math.abs(said.probability() - probability);
      largest = Math.max(largest, difference);
      // Written so that a NaN counts as different.
      if (!(difference <= TOLERANCE) || !said.label().equals(label)) {
        differing++;
        if (first == null) {
          first = "example " + (i + 1) + ": recorded " + probability + " " + label
              + ", the library says " + said.probability() + " " + said.label();
        }
      }
    }
    Files.writeString(
        Path.of("target", "replay.json"),
        "{\"examples\": " + examples.size() + ", \"differing\": " + differing + ", \"largest_difference\": " + largest + "}");
    if (differing > 0) {
      fail(differing + " of " + examples.size() + " examples differ; first " + first);
    }
  }
}
