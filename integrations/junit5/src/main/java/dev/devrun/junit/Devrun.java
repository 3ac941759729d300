package dev.devrun.junit;

import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Runs devrun commands. {@code DEVRUN} names another devrun than the one on PATH. */
final class Devrun {
  private Devrun() {}

  /** Runs a command in a directory and returns its standard output. */
  static String run(File directory, String... words) {
    List<String> line = new ArrayList<>();
    String command = System.getenv("DEVRUN");
    line.add(command == null || command.isEmpty() ? "devrun" : command);
    line.addAll(List.of(words));
    try {
      Path errors = Files.createTempFile("devrun-", ".txt");
      try {
        Process process =
            new ProcessBuilder(line).directory(directory).redirectError(errors.toFile()).start();
        process.getOutputStream().close();
        String out = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        int code = process.waitFor();
        if (code != 0) {
          String said = Files.readString(errors).strip();
          throw new IllegalStateException(
              "devrun " + String.join(" ", words) + " exited with " + code + ":\n" + said);
        }
        return out;
      } finally {
        Files.deleteIfExists(errors);
      }
    } catch (IOException error) {
      throw new IllegalStateException("cannot run devrun", error);
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException("interrupted while devrun ran", error);
    }
  }

  static boolean isRunning(File directory) {
    return !run(directory, "ps", "--json").contains("\"supervisor_pid\":null");
  }

  /** A text of the one-line JSON that {@code db fork --json} prints. */
  static String text(String json, String key) {
    Matcher found = Pattern.compile('"' + key + "\":\"((?:[^\"\\\\]|\\\\.)*)\"").matcher(json);
    if (!found.find()) {
      throw new IllegalStateException("devrun printed no " + key + ": " + json);
    }
    return found.group(1).replace("\\\"", "\"").replace("\\\\", "\\");
  }
}
