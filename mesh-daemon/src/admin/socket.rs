//! The admin socket: a unix socket with mode 0600 where other commands ask the running daemon.

use std::{
    fs::{DirBuilder, Metadata},
    io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use hyper::StatusCode;
use nix::sys::stat::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{
    AdminError,
    http::{Get, Reply},
    views::{self, Views},
};

/// The socket's directory: others may look, only root may write.
const DIRECTORY_MODE: u32 = 0o755;
/// The socket: whoever may write into it may ask everything.
const SOCKET_MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

const PATHS: &str = "\
/snapshot                         what the daemon knows and acts on, as text
/routes                           rules of all Services in the order of precedence, as JSON
/routes?namespace=NAME            those of a namespace's Services
/routes?service=NAMESPACE/NAME    those of one
/endpoints?service=NAMESPACE/NAME endpoints of a Service and what is known of each, as JSON
/policy?service=NAMESPACE/NAME    settings of a Service and who says so, as JSON
";

/// The socket, bound; its file goes when it is dropped.
#[derive(Debug)]
pub(super) struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The socket's file; removed when dropped, unless somebody has put another in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl AdminSocket {
    /// Binds at `path`. The file of a daemon that died is replaced, a living one's is not.
    pub(super) fn bind(path: &Path) -> Result<Self, AdminError> {
        let failed = |source: io::Error| AdminError::Socket {
            path: path.to_owned(),
            source,
        };
        if let Some(parent) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(parent)
                .map_err(failed)?;
        }
        clear(path)?;
        let listener = listen(path).map_err(failed)?;
        let identity = identity(&std::fs::symlink_metadata(path).map_err(failed)?);
        Ok(Self {
            listener,
            file: SocketFile {
                path: path.to_owned(),
                identity,
            },
        })
    }

    /// Hands the listener to the runtime; the file lives as long as the second.
    pub(super) fn into_tokio(self) -> io::Result<(tokio::net::UnixListener, SocketFile)> {
        self.listener.set_nonblocking(true)?;
        Ok((tokio::net::UnixListener::from_std(self.listener)?, self.file))
    }
}

/// Answers a request to the admin socket.
pub(super) fn answer(get: &Get, views: &Views) -> Option<Reply> {
    let subject = match get.path.as_str() {
        "/" => return Some(Reply::text(PATHS)),
        "/snapshot" => return Some(Reply::text((views.snapshot)())),
        path => views::subject(path, &get.query)?,
    };
    Some(match subject {
        Ok(subject) => views::reply((views.look)(&subject)),
        Err(sentence) => views::sentence(StatusCode::BAD_REQUEST, &sentence),
    })
}

/// Makes room at `path`. Two daemons that start at once do not meet here: the node's lock lets one in.
fn clear(path: &Path) -> Result<(), AdminError> {
    let failed = |source: io::Error| AdminError::Socket {
        path: path.to_owned(),
        source,
    };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if metadata.is_dir() {
        return Err(AdminError::Directory(path.to_owned()));
    }
    if !metadata.file_type().is_socket() {
        return Err(AdminError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(AdminError::SocketLive(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux gives the file the mode of the socket's descriptor: set before it is bound, there is no moment when others may connect
    fchmod(&socket, SOCKET_MODE)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let still_ours = std::fs::symlink_metadata(&self.path).is_ok_and(|now| identity(&now) == self.identity);
        if still_ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the admin socket's file");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn made_for_root_alone_and_removed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/weft/admin.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_daemons_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        AdminSocket::bind(&path).unwrap();
    }

    #[test]
    fn a_living_daemons_socket_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let _living = AdminSocket::bind(&path).unwrap();
        let refused = AdminSocket::bind(&path).unwrap_err();
        assert!(matches!(refused, AdminError::SocketLive(_)), "{refused}");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(AdminError::NotASocket(_))));
        assert!(matches!(
            AdminSocket::bind(&path.join("below")),
            Err(AdminError::Socket { .. })
        ));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_path_that_will_not_do_says_what_will() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        for (path, parts) in [
            (
                dir.path().to_owned(),
                &["is a directory: name a file in it", "admin.sock"][..],
            ),
            (file.clone(), &["not a socket", "choose another path"]),
            (file.join("below"), &["os error", "choose a path"]),
            (PathBuf::from("/proc/weft/admin.sock"), &["os error", "choose a path"]),
        ] {
            let text = AdminSocket::bind(&path).unwrap_err().to_string();
            assert!(!text.contains("remove"), "{text}");
            for part in [&["--admin-socket"], parts].concat() {
                assert!(text.contains(part), "{text:?} lacks {part:?}");
            }
        }
    }

    #[test]
    fn a_successors_file_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let first = AdminSocket::bind(&path).unwrap();
        std::fs::rename(&path, dir.path().join("kept")).unwrap();
        let _second = AdminSocket::bind(&path).unwrap();
        drop(first);
        UnixStream::connect(&path).unwrap();
    }
}
