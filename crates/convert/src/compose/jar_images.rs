//! Images of Java whose base starts the jar that was copied into them, by a script of its own: `java -jar` does that here.
//!
//! The jar is what `JAVA_APP_JAR` names, else the only one that is copied. The build that makes it runs before the image is built,
//! so no `RUN` line names it: Maven's and Gradle's own directories and files tell which of them it is.

use std::path::Path;

use super::dockerfile::{Dockerfile, Words};
use super::load;

/// The command, from the build's directory.
pub(super) fn command(file: &Dockerfile) -> Option<Vec<String>> {
    let is_script =
        |words: &Words| matches!(words, Words::List(words) if words.last().is_some_and(|word| word.ends_with("run-java.sh")));
    if file.command.is_some() || file.entrypoint.as_ref().is_some_and(|words| !is_script(words)) {
        return None;
    }
    let jar = jar(file)?;
    let mut words = vec!["java".to_owned()];
    for (_, value) in
        file.env.iter().filter(|(name, _)| matches!(name.as_str(), "JAVA_OPTS" | "JAVA_OPTS_APPEND" | "JAVA_OPTIONS"))
    {
        let options = shell_words::split(value).unwrap_or_default();
        words.extend(options.into_iter().filter(|option| option.starts_with('-') && !option.contains('$')));
    }
    words.push("-jar".to_owned());
    words.push(jar);
    // Only a shell finds the file of a pattern.
    if words.last().is_some_and(|jar| jar.contains('*')) {
        let line = format!("exec {}", words.join(" "));
        return Some(vec!["sh".to_owned(), "-c".to_owned(), line]);
    }
    Some(words)
}

/// The jar below the build's directory.
fn jar(file: &Dockerfile) -> Option<String> {
    let plain = |from: &str| from.trim_start_matches("./").trim_start_matches('/').to_owned();
    let named = file.env.iter().rev().find(|(name, _)| name == "JAVA_APP_JAR").map(|(_, value)| value.trim_matches(['"', '\'']));
    if let Some(named) = named {
        let (folder, name) = named.rsplit_once('/').unwrap_or(("", named));
        return file.copies.iter().find_map(|(from, to)| {
            let from = plain(from);
            if to == named {
                return Some(from);
            }
            if to.trim_end_matches('/') != folder {
                return None;
            }
            match from.strip_suffix("*.jar") {
                Some(source) => Some(format!("{source}{name}")),
                None if !from.contains('*') && !from.ends_with(".jar") => Some(format!("{}/{name}", from.trim_end_matches('/'))),
                None => None,
            }
        });
    }
    let mut jars = file.copies.iter().map(|(from, _)| plain(from)).filter(|from| from.ends_with(".jar"));
    let jar = jars.next()?;
    (jars.next().is_none() && !jar.contains('$')).then_some(jar)
}

/// What makes the jar, by the build tool's files in the directory and, for a part of a larger build, above it.
pub(super) fn build(file: &Dockerfile, context: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Option<String> {
    let jar = jar(file)?;
    let has = |path: &str| read(&load::join(context, path)).is_some();
    if jar.starts_with("target/") && has("pom.xml") {
        let tool = ["mvnw", "../mvnw"].into_iter().find(|path| has(path));
        let tool = tool.map_or_else(|| "mvn".to_owned(), |path| format!("sh {path}"));
        return Some(format!("{tool} -q -DskipTests package"));
    }
    if jar.starts_with("build/") && (has("build.gradle") || has("build.gradle.kts")) {
        let tool = ["gradlew", "../gradlew"].into_iter().find(|path| has(path));
        let tool = tool.map_or_else(|| "gradle".to_owned(), |path| format!("sh {path}"));
        return Some(format!("{tool} assemble"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::dockerfile;

    #[test]
    fn a_jar_is_run_from_where_it_was_copied_from() {
        let table = [
            (
                "FROM ubi8/openjdk-11\nCOPY --chown=185 target/quarkus-app/lib/ /deployments/lib/\nCOPY target/quarkus-app/*.jar /deployments/\nENV JAVA_OPTS=\"-Dquarkus.http.host=0.0.0.0 -Dx=y\"\nENV JAVA_APP_JAR=\"/deployments/quarkus-run.jar\"\n",
                Some("java -Dquarkus.http.host=0.0.0.0 -Dx=y -jar target/quarkus-app/quarkus-run.jar"),
            ),
            (
                "FROM ubi9/openjdk-21\nCOPY target/quarkus-app/ /deployments/\nENV JAVA_APP_JAR=/deployments/quarkus-run.jar\nENTRYPOINT [\"/opt/jboss/container/java/run/run-java.sh\"]\n",
                Some("java -jar target/quarkus-app/quarkus-run.jar"),
            ),
            (
                "FROM fabric8/java\nCOPY target/a.jar /deployments\nCOPY target/dependencies/* /deployments/\n",
                Some("java -jar target/a.jar"),
            ),
            ("FROM base\nCOPY build/libs/*.jar service.jar\n", Some("sh -c exec java -jar build/libs/*.jar")),
            ("FROM base\nCOPY a.jar b.jar /x/\n", None),
            ("FROM openjdk\nCOPY a.jar /x/\nCMD java -jar /x/a.jar\n", None),
            ("FROM base\nCOPY src /x/\n", None),
        ];
        for (text, expected) in table {
            let words = command(&dockerfile::parse(text, None, &[])).map(|words| words.join(" "));
            assert_eq!(words.as_deref(), expected, "{text}");
        }
    }
}
