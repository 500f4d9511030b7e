//! Asks the running daemon over its admin socket: one GET.

use std::{io, path::PathBuf, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};

use crate::{
    config::{Question, Subject},
    task,
};

/// How long a question may take: the daemon answers in milliseconds, unless it hangs.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Largest answer in bytes: 10,000 rules take some 5 MiB.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no daemon answers on {}: start one on this node, or name its socket with --admin-socket", .0.display())]
    NoDaemon(PathBuf),
    /// The socket is root's.
    #[error("this user may not ask the daemon on {}: run it as root", .0.display())]
    Denied(PathBuf),
    /// Anything else about the socket.
    #[error("cannot ask the daemon on {} ({what}): name its socket with --admin-socket", path.display())]
    Broken {
        /// The path.
        path: PathBuf,
        /// What went wrong.
        what: String,
    },
    /// It takes too long.
    #[error("the daemon on {} does not answer within {}s: its log may say why", .0.display(), ANSWER_MAX.as_secs())]
    Late(PathBuf),
    /// The daemon says why.
    #[error("{0}")]
    Refused(String),
    /// Another version of it?
    #[error("the daemon's answer is none that this program knows ({0}): are both of one version?")]
    Unreadable(#[source] serde_json::Error),
}

/// The answer's JSON.
///
/// # Errors
/// If nobody answers, or not with 200.
pub(super) async fn ask(question: &Question) -> Result<String, AskError> {
    let path = &question.admin_socket;
    let asked = timeout(ANSWER_MAX, get(question)).await;
    let (status, body) = asked.map_err(|_| AskError::Late(path.clone()))??;
    if status == StatusCode::OK {
        Ok(body)
    } else {
        Err(AskError::Refused(body.trim_end().to_owned()))
    }
}

async fn get(question: &Question) -> Result<(StatusCode, String), AskError> {
    let path = &question.admin_socket;
    let broken = |error: &dyn std::error::Error| AskError::Broken {
        path: path.clone(),
        what: crate::telemetry::causes(error),
    };
    let stream = UnixStream::connect(path).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NoDaemon(path.clone()),
        io::ErrorKind::PermissionDenied => AskError::Denied(path.clone()),
        _ => broken(&error),
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    // it ends with this question
    let _carrying = task::scoped("question", connection);
    let request = Request::get(target(&question.subject))
        .header(HOST, "weft")
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(&error))?;
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| broken(&*error))?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Names are checked already: they need no escapes.
fn target(subject: &Subject) -> String {
    match subject {
        Subject::Routes => "/routes".to_owned(),
        Subject::RoutesIn(namespace) => format!("/routes?namespace={namespace}"),
        Subject::RoutesOf(service) => format!("/routes?service={service}"),
        Subject::Endpoints(service) => format!("/endpoints?service={service}"),
        Subject::Policy(service) => format!("/policy?service={service}"),
        Subject::Policies => "/policy".to_owned(),
        Subject::PoliciesIn(namespace) => format!("/policy?namespace={namespace}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{net::UnixListener, task::LocalSet};

    use super::*;
    use crate::config::OutputFormat;

    fn question(path: PathBuf) -> Question {
        Question {
            subject: Subject::Routes,
            admin_socket: path,
            output: OutputFormat::Json,
        }
    }

    #[tokio::test]
    async fn where_nobody_answers_one_sentence_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let dead = dir.path().join("dead.sock");
        drop(UnixListener::bind(&dead).unwrap());
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        for (path, part) in [
            (dir.path().join("absent.sock"), "no daemon answers on "),
            (dead, "no daemon answers on "),
            (file, "no daemon answers on "),
            (dir.path().join("file/below"), "cannot ask the daemon on "),
        ] {
            let local = LocalSet::new();
            let error = local.run_until(ask(&question(path))).await.unwrap_err().to_string();
            assert!(error.starts_with(part) && error.contains("--admin-socket"), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
