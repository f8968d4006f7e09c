//! The supervisor's control socket, `run/control.sock` in a folder that its owner alone may enter: holds processes down and
//! lets them go again, for drills and tests. One line in, one line out:
//!
//! ```text
//! hold NAME...      kill these processes (SIGKILL) and keep them down      -> ok
//! release NAME...   start them again, answered when they are ready         -> ok
//! anything else                                                            -> error: SENTENCE
//! ```

use std::path::Path;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::child::{Kept, Order, Phase};
use super::supervisor::READY_PATIENCE;

/// Bytes of a line, at most.
const LINE_BYTES_MAX: u64 = 4_096;

/// Answers until dropped. One connection at a time: there is one person in front of it.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

/// Serves the socket.
pub async fn serve(listener: UnixListener, children: Vec<Kept>) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Err(error) = timeout(READY_PATIENCE, answer(stream, &children)).await {
            tracing::warn!(%error, "a control connection took too long");
        }
    }
}

async fn answer(stream: UnixStream, children: &[Kept]) {
    let (from, mut to) = stream.into_split();
    let mut line = String::new();
    let read = BufReader::new(from.take(LINE_BYTES_MAX))
        .read_line(&mut line)
        .await;
    let answer = match read {
        Ok(_) => match act(line.trim(), children).await {
            Ok(()) => "ok\n".to_owned(),
            Err(why) => format!("error: {why}\n"),
        },
        Err(error) => format!("error: {error}\n"),
    };
    let _ = to.write_all(answer.as_bytes()).await;
}

async fn act(line: &str, children: &[Kept]) -> Result<(), String> {
    let mut words = line.split_ascii_whitespace();
    let (order, wanted): (Order, fn(&Phase) -> bool) = match words.next() {
        Some("hold") => (Order::Hold, |phase| matches!(phase, Phase::Held)),
        Some("release") => (Order::Run, |phase| {
            matches!(phase, Phase::Ready | Phase::Failed(_))
        }),
        _ => return Err("the orders are: hold NAME..., release NAME...".to_owned()),
    };
    let mut chosen = Vec::new();
    for name in words {
        let kept = children.iter().find(|kept| kept.name == name);
        chosen.push(kept.ok_or_else(|| format!("there is no process {name}"))?);
    }
    for kept in &chosen {
        kept.order(order);
    }
    for kept in &chosen {
        if let Phase::Failed(why) = kept.wait_for(|state| wanted(&state.phase)).await.phase {
            return Err(why);
        }
    }
    Ok(())
}
