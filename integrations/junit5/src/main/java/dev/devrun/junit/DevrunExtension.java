package dev.devrun.junit;

import java.io.File;
import org.junit.jupiter.api.extension.BeforeAllCallback;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.junit.jupiter.api.extension.ExtensionContext.Namespace;
import org.junit.jupiter.api.extension.ExtensionContext.Store.CloseableResource;
import org.junit.jupiter.api.extension.ParameterContext;
import org.junit.jupiter.api.extension.ParameterResolver;

/**
 * The stack of the procfile above the working directory is up while the tests run; it is stopped at the end only if it was
 * down before. A parameter of type {@link DevrunDatabase} is a fresh database for its test.
 *
 * <pre>{@code
 * @ExtendWith(DevrunExtension.class)
 * class OrdersTest {
 *   @Test
 *   void orders(DevrunDatabase database) { … database.jdbcUrl() … }
 * }
 * }</pre>
 *
 * The configuration parameter {@code devrun.directory} names another directory.
 */
public final class DevrunExtension implements BeforeAllCallback, ParameterResolver {
  private static final Namespace NAMESPACE = Namespace.create(DevrunExtension.class);

  private record Stack(File directory, boolean wasUp) implements CloseableResource {
    @Override
    public void close() {
      if (!wasUp) {
        Devrun.run(directory, "down");
      }
    }
  }

  private record Dropped(File directory, String name) implements CloseableResource {
    @Override
    public void close() {
      Devrun.run(directory, "db", "drop", name);
    }
  }

  private static File directory(ExtensionContext context) {
    return new File(context.getConfigurationParameter("devrun.directory").orElse("."));
  }

  @Override
  public void beforeAll(ExtensionContext context) {
    File directory = directory(context);
    // In the store of the root: once for all classes, and closed after the last of them.
    context
        .getRoot()
        .getStore(NAMESPACE)
        .getOrComputeIfAbsent(
            "stack",
            key -> {
              boolean wasUp = Devrun.isRunning(directory);
              Devrun.run(directory, "up", "-d");
              return new Stack(directory, wasUp);
            });
  }

  @Override
  public boolean supportsParameter(ParameterContext parameter, ExtensionContext context) {
    return parameter.getParameter().getType() == DevrunDatabase.class;
  }

  @Override
  public Object resolveParameter(ParameterContext parameter, ExtensionContext context) {
    File directory = directory(context);
    String pid = String.valueOf(ProcessHandle.current().pid());
    String made = Devrun.run(directory, "db", "fork", "--pid", pid, "--json");
    String name = Devrun.text(made, "database");
    context.getStore(NAMESPACE).put(parameter.getIndex() + name, new Dropped(directory, name));
    return new DevrunDatabase(name, Devrun.text(made, "url"));
  }
}
