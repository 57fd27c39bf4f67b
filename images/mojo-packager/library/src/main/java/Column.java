package @package@;

import java.util.List;

/**
 * One input of the model.
 *
 * @param name the column's name
 * @param levels the values that a categorical column may have; empty for a numeric one
 */
public record Column(String name, List<String> levels) {
  /** Whether values are texts out of {@link #levels()} rather than numbers. */
  public boolean categorical() {
    return !levels.isEmpty();
  }
}
