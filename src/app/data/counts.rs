//! How much is in each store, for `snapshot diff`: rows of tables, keys of databases, objects of
//! buckets. Only servers that run can be asked.

use std::collections::BTreeMap;

use devrun_model::ready::Endpoint;
use devrun_model::{Failure, Plan, ServerDump, ServiceSpec};
use devrun_runtime::object_store::ObjectClient;
use devrun_runtime::{probe, recipes};

/// The tables of a database, as one query that counts their rows.
const TABLES: &str = "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c \
     JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition \
     AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%' ORDER BY 1";

/// The counts of the services that are ready, by service. A server that cannot be asked is left out: the snapshot is worth
/// more than its statistics.
pub async fn of(plan: &Plan, ready: impl Fn(&ServiceSpec) -> bool) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut all = BTreeMap::new();
    for spec in plan.services.values().filter(|spec| spec.data.is_some() && ready(spec)) {
        let counts = match (spec.stop_asks(), spec.dump()) {
            (Some(devrun_model::service::Server::Postgres), _) => rows(spec).await,
            (Some(devrun_model::service::Server::Redis), _) => keys(spec).await,
            (None, Some(ServerDump::S3)) => objects(spec).await,
            (None, _) => continue,
        };
        if let Ok(counts) = counts {
            all.insert(spec.id.to_string(), counts);
        }
    }
    all
}

async fn rows(spec: &ServiceSpec) -> Result<BTreeMap<String, u64>, Failure> {
    let tables: Vec<String> =
        recipes::ask_sql(spec, TABLES).await?.rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect();
    if tables.is_empty() {
        return Ok(BTreeMap::new());
    }
    let count = |table: &String| format!("SELECT '{}', count(*) FROM {table}", table.replace('\'', "''"));
    let query = tables.iter().map(count).collect::<Vec<_>>().join(" UNION ALL ");
    let counted = recipes::ask_sql(spec, &query).await?;
    let pair = |row: Vec<Option<String>>| {
        let mut values = row.into_iter().flatten();
        Some((values.next()?, values.next()?.parse().ok()?))
    };
    Ok(counted.rows.into_iter().filter_map(pair).collect())
}

async fn keys(spec: &ServiceSpec) -> Result<BTreeMap<String, u64>, Failure> {
    let failed = |reason: String| Failure::new(devrun_model::FailureKind::Task, reason);
    let port = spec.port().ok_or_else(|| failed(format!("{} has no port", spec.id)))?;
    let at = Endpoint { host: spec.bind.clone(), port };
    let (user, password) = (spec.attribute("user"), spec.attribute("password"));
    let info = probe::redis_ask(&at, user.as_deref(), password.as_deref(), &["INFO", "keyspace"])
        .await
        .map_err(|error| failed(error.answer))?;
    Ok(keyspace(&info))
}

/// The objects of each bucket.
async fn objects(spec: &ServiceSpec) -> Result<BTreeMap<String, u64>, Failure> {
    let client = ObjectClient::of(spec)?;
    let mut counts = BTreeMap::new();
    for bucket in client.buckets().await? {
        let (mut count, mut next) = (0, None);
        loop {
            let page = client.objects(&bucket, next.as_deref()).await?;
            count += page.objects.len() as u64;
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        counts.insert(bucket, count);
    }
    Ok(counts)
}

/// `db0:keys=3,expires=0,avg_ttl=0` of each database.
fn keyspace(info: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, rest) = line.trim().split_once(":keys=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    info.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn keys_by_database() {
        let counts = super::keyspace("# Keyspace\r\ndb0:keys=3,expires=0,avg_ttl=0\r\ndb12:keys=40,expires=1,avg_ttl=7\r\n");
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("db0".to_owned(), 3), ("db12".to_owned(), 40)]);
    }
}
