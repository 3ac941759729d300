//! `file`: a file is there; with `max_age` it was written to lately, as a heartbeat is.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::result::{ProbeError, ProbeOk, ProbeResult};

/// The check.
pub(super) async fn check(path: &Path, max_age: Option<Duration>) -> ProbeResult {
    let name = path.display();
    let modified = match tokio::fs::metadata(path).await {
        Ok(meta) => meta.modified(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ProbeError::new(format!("{name} is not there"))),
        Err(error) => return Err(ProbeError::new(format!("{name} cannot be looked at: {error}"))),
    };
    let Some(most) = max_age else { return Ok(ProbeOk::new(format!("{name} is there"))) };
    let modified = modified.map_err(|error| ProbeError::new(format!("{name} has no time of modification: {error}")))?;
    // One that lies in the future (a clock was set back) is fresh.
    let age = SystemTime::now().duration_since(modified).unwrap_or(Duration::ZERO);
    let most_text = devrun_model::duration::format(most);
    if age <= most {
        Ok(ProbeOk::new(format!("{name} was written to within {most_text}")))
    } else {
        Err(ProbeError::new(format!("{name} was not written to for more than {most_text}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_heartbeat_must_be_fresh() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("beat");
        assert!(check(&path, None).await.unwrap_err().answer.ends_with("is not there"));
        let file = std::fs::File::create(&path).unwrap();
        assert!(check(&path, None).await.is_ok());
        assert!(check(&path, Some(Duration::from_secs(60))).await.is_ok());
        file.set_modified(SystemTime::now() - Duration::from_secs(120)).unwrap();
        assert!(check(&path, None).await.is_ok());
        assert!(check(&path, Some(Duration::from_secs(60))).await.unwrap_err().answer.contains("more than 1m"));
    }
}
