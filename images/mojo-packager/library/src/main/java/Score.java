package @package@;

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonParseException;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/** Scores JSON Lines from standard input to JSON Lines on standard output, in order, row by row. */
public final class Score {
  private Score() {}

  /** Runs until the input ends; exits with 2 at the first row that is not one, naming its line. */
  public static void main(String[] args) {
    int line = 0;
    try {
      var predictor = Predictor.load();
      var gson = new Gson();
      var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
      var out = new BufferedWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8));
      for (String text = in.readLine(); text != null; text = in.readLine()) {
        line++;
        if (text.isBlank()) {
          continue;
        }
        Prediction said;
        try {
          said = predictor.predict(row(text));
        } catch (IllegalArgumentException e) {
          out.flush();
          System.err.println("line " + line + ": " + e.getMessage());
          System.exit(2);
          return;
        }
        out.write("{\"prediction\": " + said.probability() + ", \"label\": " + gson.toJson(said.label()) + "}\n");
        if (!in.ready()) {
          // Whoever feeds row by row gets each answer at once.
          out.flush();
        }
      }
      out.flush();
    } catch (IOException | RuntimeException e) {
      System.err.println("stopped after line " + line + ": " + e.getMessage());
      System.exit(1);
    }
  }

  /** Reads one JSON object of numbers, texts and nulls. */
  static Map<String, Object> row(String json) {
    JsonElement parsed;
    try {
      parsed = JsonParser.parseString(json);
    } catch (JsonParseException e) {
      throw new IllegalArgumentException("not JSON");
    }
    if (!parsed.isJsonObject()) {
      throw new IllegalArgumentException("not a JSON object");
    }
    return row(parsed);
  }

  static Map<String, Object> row(JsonElement object) {
    Map<String, Object> row = new LinkedHashMap<>();
    object.getAsJsonObject().asMap().forEach((name, value) -> row.put(name, plain(value)));
    return row;
  }

  private static Object plain(JsonElement value) {
    if (value instanceof JsonPrimitive primitive) {
      return primitive.isNumber() ? (Object) primitive.getAsDouble() : primitive.isString() ? primitive.getAsString() : primitive;
    }
    return value.isJsonNull() ? null : value;
  }
}
