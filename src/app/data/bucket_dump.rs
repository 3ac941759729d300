//! Objects of an S3 server through its API: into a backup, and from one into a server that only the restore knows.
//!
//! What the API does not tell is not saved: earlier versions of objects, times of change, users and their keys. It is not the state
//! of one moment either: objects are read one after the other.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use devrun_data::{ArchivedBucket, ArchivedItem, ArchivedObject, BackupManifest, CopyCancel, ObjectArchive, ObjectArchiveWriter};
use devrun_model::{Failure, FailureKind, ServiceSpec};
use devrun_runtime::object_store::{ObjectClient, StoredObject};
use tokio::sync::mpsc;

use crate::app::data::interruptible_work::DataWork;

/// The size of one piece on its way to the server.
const PIECE: usize = 1 << 18;

/// Writes the named buckets, or all, into an open file, and says in the manifest which they are.
///
/// # Errors
/// `Elsewhere` for a server that does not run, `Config` for an unknown bucket; as the server and the file system say.
pub fn save(
    spec: &ServiceSpec,
    named: &[String],
    (file, path): (&File, &Path),
    manifest: &mut BackupManifest,
    work: &DataWork,
    progress: &dyn Fn(u64),
) -> Result<(), Failure> {
    let client = ObjectClient::of(spec)?;
    let runtime = &work.runtime;
    let all = runtime.block_on(client.buckets())?;
    manifest.buckets = chosen(&all, named, spec.service.as_str())?;
    manifest.all_buckets = named.is_empty();
    let mut archive = ObjectArchiveWriter::new(file, path, &work.cancel, progress);
    for name in &manifest.buckets {
        let policy = runtime.block_on(client.policy(name))?;
        archive.bucket(&ArchivedBucket { name: name.clone(), policy })?;
        let mut next = None;
        loop {
            let page = runtime.block_on(client.objects(name, next.as_deref()))?;
            for listed in page.objects {
                work.cancel.check()?;
                // One that was deleted since the list was made.
                let Some(object) = runtime.block_on(client.read(name, &listed.key))? else { continue };
                let tags = if object.has_tags { runtime.block_on(client.tags(name, &listed.key))? } else { Vec::new() };
                let (headers, bytes) = (object.headers.clone(), object.bytes);
                let record = ArchivedObject { bucket: name.clone(), key: listed.key, headers, tags, bytes };
                archive.object(&record, &mut ObjectReader { runtime, object, piece: Vec::new(), at: 0 })?;
            }
            match page.next {
                Some(token) => next = Some(token),
                None => break,
            }
        }
    }
    archive.finish()
}

/// The named ones of those that are there, or all.
fn chosen(all: &[String], named: &[String], whose: &str) -> Result<Vec<String>, Failure> {
    if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
        let reason = format!("{whose} has no bucket {unknown}");
        return Err(Failure::new(FailureKind::Config, reason).help(format!("there are: {}", all.join(", "))));
    }
    let mut chosen = if named.is_empty() { all.to_vec() } else { named.to_vec() };
    chosen.sort();
    chosen.dedup();
    Ok(chosen)
}

/// The contents of an object, waited for.
struct ObjectReader<'a> {
    runtime: &'a tokio::runtime::Runtime,
    object: StoredObject,
    piece: Vec<u8>,
    at: usize,
}

impl Read for ObjectReader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.piece.len() {
            match self.runtime.block_on(self.object.chunk())? {
                Some(piece) => (self.piece, self.at) = (piece, 0),
                None => return Ok(0),
            }
        }
        let count = (self.piece.len() - self.at).min(bytes.len());
        bytes[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// The buckets that a restore replaces.
///
/// # Errors
/// `Config` for one that the backup does not have.
pub fn replaced(manifest: &BackupManifest, named: &[String]) -> Result<Vec<String>, Failure> {
    chosen(&manifest.buckets, named, "the backup")
}

/// Loads the named buckets of a backup, or all, in the place of what the server has under their names. A backup of all buckets
/// that is loaded as a whole leaves no other.
///
/// # Errors
/// `Integrity` for an archive that is cut; as the server says.
pub async fn load(
    spec: &ServiceSpec,
    path: &Path,
    manifest: &BackupManifest,
    named: &[String],
    progress: &dyn Fn(u64),
) -> Result<(), Failure> {
    let client = ObjectClient::of(spec)?;
    let buckets = replaced(manifest, named)?;
    for bucket in client.buckets().await? {
        let is_replaced = buckets.contains(&bucket);
        if is_replaced || (manifest.all_buckets && named.is_empty()) {
            empty(&client, &bucket).await?;
        }
        if !is_replaced && manifest.all_buckets && named.is_empty() {
            client.delete_bucket(&bucket).await?;
        }
    }
    let cancel = CopyCancel::default();
    let mut archive = ObjectArchive::open(path, &cancel, progress)?;
    let mut policies = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        match entry.item {
            ArchivedItem::Bucket(bucket) if buckets.contains(&bucket.name) => {
                client.create_bucket(&bucket.name).await?;
                policies.push(bucket);
            }
            ArchivedItem::Object(object) if buckets.contains(&object.bucket) => {
                write(&client, &object, &mut entry.contents).await?;
            }
            ArchivedItem::Bucket(_) | ArchivedItem::Object(_) => {}
        }
    }
    for bucket in policies {
        client.set_policy(&bucket.name, bucket.policy.as_deref()).await?;
    }
    Ok(())
}

async fn empty(client: &ObjectClient, bucket: &str) -> Result<(), Failure> {
    loop {
        let page = client.objects(bucket, None).await?;
        // Contents first: a server that keeps directories refuses one that is not empty.
        for object in page.objects.iter().rev() {
            client.delete(bucket, &object.key).await?;
        }
        if page.next.is_none() {
            return Ok(());
        }
    }
}

async fn write(client: &ObjectClient, object: &ArchivedObject, contents: &mut impl Read) -> Result<(), Failure> {
    let (sender, receiver) = mpsc::channel(4);
    let reading = async move {
        loop {
            let mut piece = vec![0; PIECE];
            let read = contents.read(&mut piece).map(|count| {
                piece.truncate(count);
                piece
            });
            let failed = read.as_ref().err().map(ToString::to_string);
            if read.as_ref().is_ok_and(Vec::is_empty) || sender.send(read).await.is_err() {
                return Ok(());
            }
            if let Some(reason) = failed {
                let reason = format!("cannot read the object {}/{}: {reason}", object.bucket, object.key);
                return Err(Failure::new(FailureKind::Integrity, reason));
            }
        }
    };
    let writing = client.write(&object.bucket, &object.key, &object.headers, &object.tags, object.bytes, receiver);
    let (written, read) = tokio::join!(writing, reading);
    read.and(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_buckets_must_be_there() {
        let all = ["b".to_owned(), "a".to_owned()];
        assert_eq!(chosen(&all, &[], "s3").unwrap(), ["a", "b"]);
        assert_eq!(chosen(&all, &["b".to_owned(), "b".to_owned()], "s3").unwrap(), ["b"]);
        let failure = chosen(&all, &["c".to_owned()], "s3").unwrap_err();
        assert_eq!((failure.kind, failure.reason.as_str()), (FailureKind::Config, "s3 has no bucket c"));
    }
}
