//! temporary
use cc_ci::supervisor::*;
fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().init();
    let a: Vec<String> = std::env::args().collect();
    let get = |k: &str| a.iter().position(|x| x == k).map(|i| a[i + 1].clone());
    match a[1].as_str() {
        "run" => {
            let loaded = config::read_file(std::path::Path::new(&get("--config").unwrap()));
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
                    from_phase: get("--from-phase").map(|n| n.parse().unwrap()),
                    leave: if a.iter().any(|x| x == "--leave-sessions") {
                        core::event::Leave::Sessions
                    } else {
                        core::event::Leave::Nothing
                    },
                    supervisor: std::env::current_exe().unwrap(),
                },
            );
            if let Err(e) = r {
                eprintln!("supervisor: {e:#}");
                std::process::exit(1)
            }
        }
        "probe-tcp" => std::process::exit(std::net::TcpStream::connect(&a[2]).is_err().into()),
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
