//! temporary
use cc_ci::supervisor::*;
fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().init();
    let a: Vec<String> = std::env::args().collect();
    let get = |k: &str| a.iter().position(|x| x == k).map(|i| a[i + 1].clone());
    match a[1].as_str() {
        "run" => {
            let loaded = config::read_file(std::path::Path::new(&a[2]));
            let loaded = match loaded {
                Ok(l) => l,
                Err(e) => {
                    eprintln!("{e}");
                    std::process::exit(2)
                }
            };
            let r = daemon::run(
                loaded.config,
                daemon::RunOptions {
                    from_phase: None,
                    leave: core::event::Leave::Nothing,
                    supervisor: std::env::current_exe().unwrap(),
                },
            );
            if let Err(e) = r {
                eprintln!("supervisor: {e:#}");
                std::process::exit(1)
            }
        }
        "session" => {
            let e = session::run(&session::SessionSpec {
                name: a[2].parse().unwrap(),
                runtime_dir: get("--runtime-dir").unwrap().into(),
                log: get("--log").unwrap().into(),
                host: config::HostKind::Direct,
            });
            eprintln!("{:?}", e);
            std::process::exit(1)
        }
        "agent" => {
            let e = launch::run(
                &a[2].parse().unwrap(),
                get("--epoch").unwrap().parse().unwrap(),
                get("--spec").unwrap().as_ref(),
            );
            eprintln!("{}", e.unwrap_err());
            std::process::exit(2)
        }
        _ => {}
    }
}
