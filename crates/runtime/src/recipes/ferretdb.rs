//! FerretDB: with a password it asks for the login, without one it takes anybody, as MongoDB's image does.

use super::context::RecipeContext;
use super::generic;
use super::recipe::Recipe;
use crate::exec_request::ExecRequest;
use devrun_model::{Failure, FailureKind};

/// FerretDB: its first user.
pub(super) struct FerretDb;

impl Recipe for FerretDb {
    fn prepare(&self, context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
        prepare(context)
    }
}

/// What to exec.
///
/// # Errors
/// As for every recipe that is data; `Config` for a user without a password.
fn prepare(context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
    let mut request = generic::prepare(context)?;
    let attribute = |name: &str| context.spec.attributes.get(name).filter(|value| !value.is_empty());
    match (attribute("user"), attribute("password")) {
        (None, None) => {}
        (Some(user), Some(password)) => {
            // Variables, as every user of the machine can read a command line.
            for (name, value) in [
                ("FERRETDB_TEST_ENABLE_NEW_AUTH", "true"),
                ("FERRETDB_SETUP_USERNAME", user),
                ("FERRETDB_SETUP_PASSWORD", password),
                ("FERRETDB_SETUP_DATABASE", "admin"),
            ] {
                request.env.insert(name.to_owned(), value.to_owned());
            }
        }
        (user, _) => {
            let (has, lacks) = if user.is_some() { ("user", "password") } else { ("password", "user") };
            return Err(Failure::new(FailureKind::Config, format!("ferretdb has a {has} and no {lacks}"))
                .help(format!("give it `{lacks}` as well, or leave both out: then it asks for no login")));
        }
    }
    Ok(request)
}
