//! Redis with passwords that break configuration files.

use std::path::Path;

use devrun_keeper::CommandRequest;
use devrun_model::keeper::Role;
use devrun_model::{ServiceSpec, Signal};
use devrun_runtime::recipes::{FirstBootOutcome, first_boot, prepare};

use crate::stack::{Stack, block_on, found, skip};
use crate::waits::eventually_ok;

trials![a_password_of_any_kind_survives_the_configuration];

fn installed() -> Option<devrun_store::Located> {
    ["/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"]
        .iter()
        .find_map(|folder| found("redis", "7", Path::new(folder), &["redis-server"]))
}

async fn ping(spec: &ServiceSpec, password: Option<&str>) -> Result<String, redis::RedisError> {
    let info = redis::ConnectionAddr::Tcp("127.0.0.1".to_owned(), spec.port().unwrap());
    let mut settings = redis::RedisConnectionInfo::default();
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    let info = redis::IntoConnectionInfo::into_connection_info(info)?.set_redis_settings(settings);
    let mut connection = redis::Client::open(info)?.get_multiplexed_async_connection().await?;
    redis::cmd("PING").query_async(&mut connection).await
}

fn a_password_of_any_kind_survives_the_configuration() {
    let Some(located) = installed() else { return skip("no redis-server is installed") };
    for password in ["#ThawZin2k77!", "a \"b\" 'c' \\ $HOME ${x} ä#"] {
        block_on(async {
            let mut stack = Stack::new(located.clone());
            stack.attribute("password", password);
            stack.recipe.settings.insert("appendonly".to_owned(), "yes".to_owned());
            stack.recipe.settings.insert("save".to_owned(), "900 1".to_owned());
            let runner = stack.runner().await;
            let context = stack.context(&runner);
            assert!(matches!(first_boot(&context).await.unwrap().outcome, FirstBootOutcome::Made { .. }));
            assert!(matches!(first_boot(&context).await.unwrap().outcome, FirstBootOutcome::Done { .. }));
            let invocation = prepare(&context).unwrap();
            assert!(invocation.argv.iter().all(|word| !word.contains(password)));
            std::fs::create_dir_all(stack.places.service_run(&stack.spec.id)).unwrap();
            for (path, text) in &invocation.files {
                std::fs::write(path, text).unwrap();
            }
            let request = CommandRequest {
                role: Role::Main,
                program: invocation.program,
                argv: invocation.argv,
                env: invocation.env,
                dir: invocation.dir,
                run_as: invocation.run_as,
                timeout: std::time::Duration::from_secs(60),
            };
            let server = runner.start(request).await.unwrap();
            let answer = eventually_ok(std::time::Duration::from_secs(20), async || {
                ping(&stack.spec, Some(password)).await.map_err(|error| format!("{error}; {}", stack.output.text()))
            })
            .await;
            assert_eq!(answer, "PONG");
            assert!(ping(&stack.spec, None).await.is_err(), "it answers without a password");
            let finished = server.stop(Signal::TERM, std::time::Duration::from_secs(20)).await;
            assert!(finished.status.success(), "{}", finished.status);
        });
    }
}
