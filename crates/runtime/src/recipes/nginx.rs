//! nginx started by root: its workers serve the same files as every other service of the stack.
//!
//! A master that is root gives its workers the user `nobody` unless the configuration names another. That user passes no directory of
//! mode 0700 on the way to the pages, such as root's home, and every request would be answered with 403. Programs of a stack run as the
//! user who started it, so the workers do too; a `user` in the configuration wins, and so does `user_id`.

use nix::unistd::{Group, User, getegid, geteuid};

use devrun_model::Failure;
use devrun_model::keeper::RunAs;

use super::context::RecipeContext;
use super::generic;
use super::recipe::Recipe;
use crate::exec_request::ExecRequest;

/// The code of the recipe `nginx`.
pub(super) struct Nginx;

impl Recipe for Nginx {
    fn prepare(&self, context: &RecipeContext<'_>) -> Result<ExecRequest, Failure> {
        let mut request = generic::prepare(context)?;
        let sets_user = request.files.iter().any(|(path, text)| path.ends_with("nginx.conf") && sets_user(text));
        if geteuid().is_root() && request.run_as == RunAs::Same && !sets_user {
            let user = User::from_uid(geteuid()).ok().flatten();
            let group = Group::from_gid(getegid()).ok().flatten();
            // Without names there is nothing that nginx could look up.
            if let (Some(user), Some(group)) = (user, group) {
                request.argv.extend(["-g".to_owned(), format!("user {} {};", user.name, group.name)]);
            }
        }
        Ok(request)
    }
}

/// Whether a configuration says whom the workers run as: twice is an error of nginx.
fn sets_user(text: &str) -> bool {
    let plain = text.lines().map(|line| line.split('#').next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    plain.split([';', '{', '}']).any(|statement| statement.split_whitespace().next() == Some("user"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_of_the_configuration_is_found() {
        for (text, expected) in [
            ("events {}\nuser www-data;\nhttp {}\n", true),
            ("user\n  www-data www-data;", true),
            ("events { } user x;", true),
            ("# user nobody;\nuserid on; http { server { location /user { return 200 user; } } }", false),
            ("", false),
        ] {
            assert_eq!(sets_user(text), expected, "{text}");
        }
    }
}
