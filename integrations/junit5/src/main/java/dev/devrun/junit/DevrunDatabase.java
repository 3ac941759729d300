package dev.devrun.junit;

/** The database of one test: a fresh copy, dropped after the test. */
public record DevrunDatabase(String name, String url) {
  /** The address for JDBC, with user and password as parameters. */
  public String jdbcUrl() {
    java.net.URI uri = java.net.URI.create(url);
    String[] login = uri.getRawUserInfo() == null ? new String[] {""} : uri.getRawUserInfo().split(":", 2);
    String password = login.length > 1 ? "&password=" + login[1] : "";
    return "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath() + "?user=" + login[0] + password;
  }
}
