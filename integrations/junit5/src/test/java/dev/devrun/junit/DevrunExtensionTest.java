package dev.devrun.junit;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.RepeatedTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

@ExtendWith(DevrunExtension.class)
class DevrunExtensionTest {
  private static final File PROJECT = new File("src/test/stack");

  private static String ask(String url, String sql) throws Exception {
    Process psql =
        new ProcessBuilder("psql", "-X", "-A", "-t", "-q", "-c", sql, url).redirectErrorStream(true).start();
    String out = new String(psql.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
    assertEquals(0, psql.waitFor(), out);
    return out;
  }

  @RepeatedTest(3)
  void eachHasItsOwn(DevrunDatabase database) throws Exception {
    assertEquals("3", ask(database.url(), "select count(*) from orders"));
    ask(database.url(), "delete from orders");
    assertTrue(database.jdbcUrl().startsWith("jdbc:postgresql://127.0.0.1:"), database.jdbcUrl());
  }

  @Test
  void theStackIsUp() {
    assertTrue(Devrun.isRunning(PROJECT));
  }
}
