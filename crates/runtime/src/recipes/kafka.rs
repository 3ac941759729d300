//! Kafka: its data directory is formatted once, and everything in `set` is a line of `server.properties`.

use std::path::Path;
use std::time::{Duration, Instant};

use super::context::{RecipeContext, tool};
use super::first_boot::{FirstBoot, FirstBootOutcome};
use super::generic::{commit, open, text_of};
use super::properties::{self, PropertiesFile};
use super::recipe::{Recipe, RecipeFuture};
use crate::exec_request::ExecRequest;
use crate::init::{self, Sentinel};
use devrun_keeper::CommandRequest;
use devrun_model::keeper::{Role, RunAs};
use devrun_model::{Failure, FailureKind, VolumeSpec};

/// Kafka: formats its data, and takes any setting of the broker.
pub(super) struct Kafka;

impl Recipe for Kafka {
    fn prepare(&self, context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
        prepare(context)
    }
    fn first_boot<'a>(&'a self, context: &'a RecipeContext<'a>) -> RecipeFuture<'a, FirstBoot> {
        Box::pin(first_boot(context))
    }
}

/// Formatting takes a start of Java.
const LONGEST: Duration = Duration::from_secs(120);
const PROPERTIES: &str = "server.properties";
/// Settings of the broker that a key of the procfile stands for.
const TAKEN: &[(&str, &str)] = &[
    ("listeners", "`port` and `bind`"),
    ("advertised.listeners", "`port` and `bind`"),
    ("log.dirs", "`data`"),
    ("log.dir", "`data`"),
    ("process.roles", "the recipe, which runs one node"),
    ("node.id", "the recipe, which runs one node"),
    ("controller.quorum.voters", "the recipe, which runs one node"),
];

/// Settings that the recipe has a placeholder for.
const OWN: &[&str] = &["heap"];
const EXAMPLE: &str = "set = { heap = \"1g\", \"num.partitions\" = \"3\", \"log.retention.hours\" = \"24\" }";

fn prepare(context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
    properties::prepare(
        context,
        &PropertiesFile { name: PROPERTIES, own: OWN, taken: TAKEN, example: EXAMPLE, line: properties::java_line },
    )
}

fn volume<'a>(context: &RecipeContext<'a>) -> Result<&'a VolumeSpec, Failure> {
    context.volume.ok_or_else(|| {
        Failure::new(FailureKind::Config, "kafka needs a volume for its data")
            .help(format!("data = \"{}\"", context.spec.service))
    })
}

/// Makes the directory and formats it, with the server's own tool.
///
/// # Errors
/// `Task` when the tool failed or the volume is foreign, `Binary` when a newer version made the data.
async fn first_boot(context: &RecipeContext<'_>) -> Result<FirstBoot, Failure> {
    let volume = volume(context)?;
    let began = Instant::now();
    let stage = match open(volume, "kafka").await? {
        Ok(stage) => stage,
        Err(sentinel) => {
            super::data_dir::refuse_newer_data(context, &sentinel, volume)?;
            return Ok(FirstBoot { outcome: FirstBootOutcome::Done { at: sentinel.finished }, warnings: Vec::new() });
        }
    };
    let warnings = stage.warnings.clone();
    if let Err(failure) = format(context, &stage.path()).await {
        stage.rollback()?;
        return Err(failure);
    }
    let sentinel = Sentinel::new("kafka/first-boot", String::new(), &context.located.version, began.elapsed())?;
    commit(stage, sentinel).await?;
    let took = began.elapsed();
    Ok(FirstBoot { outcome: FirstBootOutcome::Made { took, steps: vec![("format", took)] }, warnings })
}

async fn format(context: &RecipeContext<'_>, stage: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let data = stage.join("data");
    let failed = |path: &Path, error: std::io::Error| Failure::new(FailureKind::Task, format!("{}: {error}", path.display()));
    std::fs::DirBuilder::new().mode(0o700).create(&data).map_err(|error| failed(&data, error))?;
    // The ports and names of this file do not reach the data.
    let text = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@localhost:9093\n\
         listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         controller.listener.names=CONTROLLER\nlog.dirs={}\n",
        text_of(&data)?
    );
    init::write_durably(stage, PROPERTIES, text.as_bytes())?;
    let file = stage.join(PROPERTIES);
    let program = tool(context, "kafka-storage.sh")?.to_owned();
    let argv =
        ["kafka-storage.sh", "format", "--cluster-id", &cluster_id()?, "--config", &text_of(&file)?].map(str::to_owned).to_vec();
    let mut env = context.spec.env.clone();
    env.extend(context.located.env.clone());
    env.insert("LOG_DIR".to_owned(), text_of(stage)?);
    let request =
        CommandRequest { role: Role::Init, program, argv, env, dir: stage.to_owned(), run_as: RunAs::Same, timeout: LONGEST };
    let finished = context.runner.run(request).await?;
    if !finished.status.success() || finished.timed_out {
        let said = super::output_tail::last_lines(&finished.tail);
        return Err(Failure::new(FailureKind::Task, format!("kafka-storage.sh: {}: {said}", finished.status))
            .help("it needs Java 17 or newer: apt-get install openjdk-17-jre-headless, or set JAVA_HOME"));
    }
    std::fs::remove_file(&file).map_err(|error| failed(&file, error))
}

/// 16 random bytes as the tool writes them: base64 of the kind for URLs, without padding.
fn cluster_id() -> Result<String, Failure> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(FailureKind::Internal, format!("the system has no randomness: {error}")))?;
    // A leading dash would be taken for an option.
    bytes[0] &= 0x7f;
    let number = u128::from_be_bytes(bytes);
    let digit = |shift: u32| char::from(DIGITS[usize::try_from((number >> shift) & 63).unwrap_or(0)]);
    let mut text: String = (0..21u32).map(|place| digit(122 - 6 * place)).collect();
    // 128 bits are 21 digits of six and one of two.
    text.push(char::from(DIGITS[usize::try_from((number & 3) << 4).unwrap_or(0)]));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_is_22_digits_and_no_option() {
        let ids: Vec<String> = (0..50).map(|_| cluster_id().unwrap()).collect();
        for id in &ids {
            assert_eq!(id.len(), 22);
            assert!(!id.starts_with('-'), "{id}");
            assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{id}");
        }
        assert_ne!(ids[0], ids[1]);
    }
}
