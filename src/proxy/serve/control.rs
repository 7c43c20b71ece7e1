//! The daemon's end of the control socket: one JSON object a line each way. It can only tell, so everyone on the machine
//! may ask.

use crate::proxy::control::{Request, socket_path};
use crate::proxy::state::State;
use anyhow::{Context as _, bail};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The longest request.
const LONGEST: u64 = 4096;
/// Whoever asks has this long for it.
const WITHIN: Duration = Duration::from_secs(5);
/// At once.
const MOST: usize = 32;

/// Makes the socket, and the folder if need be.
///
/// # Errors
/// When it cannot be made, or a living one is there.
pub fn bind(runtime_dir: &Path) -> anyhow::Result<UnixListener> {
    let path = socket_path(runtime_dir);
    std::fs::create_dir_all(runtime_dir)
        .with_context(|| format!("making `runtime_dir` `{}`; make it, or set another", runtime_dir.display()))?;
    match std::os::unix::net::UnixStream::connect(&path) {
        Ok(_) => bail!(
            "taking the control socket `{}`: another proxy-shim runs with this `runtime_dir`; stop it, or set another",
            path.display()
        ),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        // Left by one that is dead.
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(&path).with_context(|| format!("removing the old socket `{}`", path.display()))?;
        }
        Err(e) => return Err(e).with_context(|| format!("looking at the control socket `{}`", path.display())),
    }
    let listener =
        UnixListener::bind(&path).with_context(|| format!("making the control socket `{}`", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))
        .with_context(|| format!("opening the control socket `{}` to all", path.display()))?;
    Ok(listener)
}

/// Answers for ever.
pub async fn serve(state: Arc<State>, listener: UnixListener) {
    let room = Arc::new(Semaphore::new(MOST));
    loop {
        // Never closed.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let state = state.clone();
                tokio::spawn(async move {
                    // Whoever asks and goes, or takes too long, gets no answer.
                    let _ = timeout(WITHIN, answer(&state, stream)).await;
                    drop(permit);
                });
            }
            Err(e) => {
                tracing::warn!("accepting on the control socket: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(state: &State, mut stream: UnixStream) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = Vec::new();
    BufReader::new(read.take(LONGEST)).read_until(b'\n', &mut line).await?;
    let answer = match serde_json::from_slice::<Request>(&line) {
        Ok(Request::Status) => serde_json::to_vec(&serde_json::json!({ "status": state.view() })),
        Err(e) => serde_json::to_vec(&serde_json::json!({ "error": format!("reading the request: {e}") })),
    };
    let mut answer = answer.map_err(std::io::Error::other)?;
    answer.push(b'\n');
    write.write_all(&answer).await
}
