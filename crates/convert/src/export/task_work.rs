//! One-time work of devrun's own (`sql`, `buckets`, …) → a container that does it with the server's own client.

use std::path::Path;

use devrun_model::{ServiceSpec, Work};

use super::health::shell_quote;
use super::procfile_values::relative;
use super::references::References;
use super::stack::{ContainerMount, MountSource, Origin, Workload};
use super::template::ExportText;

/// The client of S3 servers.
const S3_CLIENT: &str = "minio/mc:latest";
/// A client of JSON interfaces.
const HTTP_CLIENT: &str = "curlimages/curl:latest";
/// Where a task's files lie in its container.
const FILES: &str = "/devrun/work";
/// Makes the container of a task; `false`: nothing there could do it, with a loss.
pub(crate) fn fill(references: &References<'_>, name: &str, spec: &ServiceSpec, work: &Work, workload: &mut Workload) -> bool {
    let path = references.path(name);
    let on = spec.task.as_ref().and_then(|task| task.on.as_ref()).and_then(|id| references.source.plan.services.get(id));
    let Some(server) = on.map(|spec| spec.service.to_string()) else {
        references.lose(path, "its server is not known");
        return false;
    };
    let Some((_, reference)) = references.image_reference(&server) else {
        references.lose(path, format!("`{server}` has no image with a client"));
        return false;
    };
    let mut job = Job { references, path, host: references.host(&server), server, workload };
    let script = match work {
        Work::Sql { files, text } => job.sql(reference, files, text.as_deref()),
        Work::Cypher { files } => job.cypher(reference, files),
        Work::Buckets { buckets } => job.buckets(buckets),
        Work::Collections { collections } => job.collections(collections),
        Work::Models { models } => job.models(reference, models),
        Work::Indexes { indexes } => job.indexes(indexes),
    };
    // As the entry point: the images' own ones would take the words for those of their server.
    workload.entrypoint = vec![ExportText::literal("sh"), ExportText::literal("-ec")];
    workload.command = vec![ExportText::literal(script)];
    true
}

struct Job<'a, 'b> {
    references: &'a References<'b>,
    path: String,
    host: String,
    server: String,
    workload: &'a mut Workload,
}

impl Job<'_, '_> {
    fn image(&mut self, reference: impl Into<String>) {
        self.workload.origin = Origin::ContainerImage(ExportText::literal(reference));
    }
    fn env(&mut self, name: &str, value: Option<ExportText>) {
        if let Some(value) = value {
            self.workload.env.push((name.to_owned(), value));
        }
    }
    fn login(&mut self, user: &str, password: &str, database: &str) {
        for (variable, key) in [(user, "user"), (password, "password"), (database, "database")] {
            if !variable.is_empty() {
                let value = self.references.login(&self.server, key);
                self.env(variable, value);
            }
        }
    }
    fn port(&self) -> String {
        self.references.image(&self.server).map_or_else(String::new, |image| image.port.to_string())
    }
    /// The file as the container sees it.
    fn file(&mut self, file: &Path) -> String {
        let target = format!("{FILES}/{}", file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
        match relative(self.references, file) {
            Some(local) => {
                let mount = ContainerMount { source: MountSource::Path(local), target: target.clone(), read_only: true };
                if !self.workload.mounts.contains(&mount) {
                    self.workload.mounts.push(mount);
                }
            }
            None => self.references.lose(self.path.clone(), format!("{} lies outside the project", file.display())),
        }
        target
    }

    fn sql(&mut self, reference: String, files: &[std::path::PathBuf], text: Option<&str>) -> String {
        self.image(reference);
        self.env("PGHOST", Some(ExportText::literal(&self.host)));
        self.env("PGPORT", Some(ExportText::literal(self.port())));
        self.login("PGUSER", "PGPASSWORD", "PGDATABASE");
        let mut lines: Vec<String> = files
            .iter()
            .map(|file| {
                let file = self.file(file);
                let name = shell_quote(&file);
                if file.ends_with(".gz") {
                    format!("gunzip -c {name} | psql -v ON_ERROR_STOP=1 -q")
                } else {
                    format!("psql -v ON_ERROR_STOP=1 -q -f {name}")
                }
            })
            .collect();
        lines.extend(text.map(|text| format!("psql -v ON_ERROR_STOP=1 -q -c {}", shell_quote(text))));
        lines.join("\n")
    }

    fn cypher(&mut self, reference: String, files: &[std::path::PathBuf]) -> String {
        self.image(reference);
        self.login("NEO4J_USERNAME", "NEO4J_PASSWORD", "");
        let address = format!("bolt://{}:{}", self.host, self.port());
        let line = |file: &std::path::PathBuf| {
            let file = self.file(file);
            format!("cypher-shell -a {address} -f {}", shell_quote(&file))
        };
        files.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn buckets(&mut self, buckets: &[(String, String)]) -> String {
        self.image(S3_CLIENT);
        self.login("S3_USER", "S3_PASSWORD", "");
        let mut lines = vec![format!("mc alias set s3 http://{}:{} \"$S3_USER\" \"$S3_PASSWORD\"", self.host, self.port())];
        for (bucket, policy) in buckets {
            let place = shell_quote(&format!("s3/{bucket}"));
            lines.push(format!("mc mb --ignore-existing {place}"));
            if policy != "none" && !policy.is_empty() {
                lines.push(format!("mc anonymous set {} {place}", shell_quote(policy)));
            }
        }
        lines.join("\n")
    }

    fn collections(&mut self, collections: &[(String, String)]) -> String {
        self.image(HTTP_CLIENT);
        self.login("", "API_KEY", "");
        let base = format!("http://{}:{}/collections", self.host, self.port());
        let key = "${API_KEY:+-H \"api-key: $API_KEY\"}";
        let line = |(name, body): &(String, String)| {
            let url = shell_quote(&format!("{base}/{name}"));
            let body = if body.is_empty() { "{}" } else { body };
            format!(
                "curl -fsS {key} -o /dev/null {url} || curl -fsS {key} -X PUT -H 'content-type: application/json' -d {} {url}",
                shell_quote(body)
            )
        };
        collections.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn models(&mut self, reference: String, models: &[(String, Option<std::path::PathBuf>)]) -> String {
        self.image(reference);
        let host = format!("http://{}:{}", self.host, self.port());
        self.env("OLLAMA_HOST", Some(ExportText::literal(host)));
        let line = |(name, from): &(String, Option<std::path::PathBuf>)| {
            let name = shell_quote(name);
            match from {
                None => format!("ollama pull {name}"),
                Some(file) => {
                    let file = self.file(file);
                    format!("printf 'FROM %s\\n' {} > /tmp/Modelfile\nollama create {name} -f /tmp/Modelfile", shell_quote(&file))
                }
            }
        };
        models.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn indexes(&mut self, indexes: &[(String, Option<String>)]) -> String {
        self.image(HTTP_CLIENT);
        self.login("", "API_KEY", "");
        let base = format!("http://{}:{}/indexes", self.host, self.port());
        let key = "${API_KEY:+-H \"authorization: Bearer $API_KEY\"}";
        let line = |(uid, primary): &(String, Option<String>)| {
            let mut body = serde_json::Map::new();
            body.insert("uid".to_owned(), uid.as_str().into());
            if let Some(primary) = primary {
                body.insert("primaryKey".to_owned(), primary.as_str().into());
            }
            let body = serde_json::Value::Object(body).to_string();
            format!(
                "curl -fsS {key} -X POST -H 'content-type: application/json' -d {} {}",
                shell_quote(&body),
                shell_quote(&base)
            )
        };
        indexes.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}
