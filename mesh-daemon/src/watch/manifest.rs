//! A directory of manifests: which files count, what each said last, and what holds while one is half-written. The only place that reads files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::{
    Error,
    convert::{Reason, Refused},
    document::{self, Document, Syntax, set_aside},
    objects::{Kind, Object, Objects},
};

/// Largest file, in bytes. 16 MiB hold about four thousand Pods as kubectl prints them; parsing takes a second or less.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Most files of a directory: more than one for each object of the clusters that a directory can stand for.
const FILES_MAX: usize = 10_000;

/// Reads a directory once.
///
/// # Errors
/// If the directory is missing, or a file of it cannot be read or does not parse.
pub fn read_dir(dir: &Path) -> Result<Objects, Error> {
    Ok(Directory::open(dir.to_owned())?.objects())
}

/// A directory that is read again and again.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// By name: the order in which duplicates are settled.
    files: BTreeMap<String, Manifest>,
    /// What is wrong with the directory as a whole.
    trouble: Option<Refused>,
    gone: bool,
}

/// What is known of one file.
#[derive(Debug, Default)]
struct Manifest {
    /// Of the text that was last parsed: the same text is not parsed again.
    digest: Option<u64>,
    /// What holds: the last good content, and last good versions of objects.
    document: Document,
    /// Why what holds is not what stands there now.
    trouble: Option<Refused>,
}

impl Directory {
    /// Reads it for the first time: what cannot be read or parsed is an error.
    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        let mut directory = Self {
            path,
            files: BTreeMap::new(),
            trouble: None,
            gone: false,
        };
        let listed = directory.list().map_err(|source| Error::Directory {
            path: directory.path.clone(),
            source,
        })?;
        directory.update(listed);
        for (name, manifest) in &directory.files {
            let path = directory.path.join(name);
            match &manifest.trouble {
                Some(refused) if refused.reason == Reason::Unparsable => {
                    let detail = refused.detail.clone();
                    return Err(Error::Unparsable { path, detail });
                }
                Some(refused) if refused.reason == Reason::Unreadable => {
                    let source = io::Error::other(refused.detail.clone());
                    return Err(Error::File { path, source });
                }
                _ => {}
            }
        }
        Ok(directory)
    }

    /// Reads it again. What cannot be read or parsed keeps its last good content.
    pub(super) fn refresh(&mut self) {
        let listed = self.list();
        self.gone = listed.is_err();
        match listed {
            Ok(listed) => self.update(listed),
            Err(error) => {
                self.trouble = Some(Refused::new(
                    Reason::DirectoryGone,
                    format!("cannot be read: {error}; what its files said last holds on"),
                ));
            }
        }
    }

    /// Whether the last attempt found no directory.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// What all files say together. Of an object that stands in several places the first holds, in the order of file names.
    pub(super) fn objects(&self) -> Objects {
        let mut objects = Objects::default();
        let mut first: BTreeMap<(Kind, String), &str> = BTreeMap::new();
        let trouble = self.trouble.iter().cloned();
        let dir = self.path.display().to_string();
        objects
            .refused
            .extend(trouble.map(|refused| set_aside("File", &dir, refused)));
        for (file, manifest) in &self.files {
            let path = self.path.join(file).display().to_string();
            let trouble = manifest.trouble.iter().cloned();
            objects
                .refused
                .extend(trouble.map(|refused| set_aside("File", &path, refused)));
            objects.refused.extend(manifest.document.refused.iter().cloned());
            objects.unknown += manifest.document.unknown;
            for object in &manifest.document.objects {
                let (kind, name) = object.key();
                if let Some(holder) = first.get(&(kind, name.clone())) {
                    let detail = format!("stands in {holder}, which holds, and again in {file}");
                    objects
                        .refused
                        .insert(set_aside(kind.name(), &name, Refused::new(Reason::Duplicate, detail)));
                    continue;
                }
                first.insert((kind, name), file);
                objects.insert(object.clone());
            }
        }
        objects
    }

    /// Names of the files that count. Links are followed; a link to nothing is no file.
    fn list(&self) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.path)? {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            // not a directory, and not a FIFO, which would hold us up for ever
            if syntax(&name).is_some() && fs::metadata(self.path.join(&name)).is_ok_and(|found| found.is_file()) {
                names.insert(name);
            }
        }
        Ok(names)
    }

    fn update(&mut self, mut listed: BTreeSet<String>) {
        self.trouble = None;
        if let Some(beyond) = listed.iter().nth(FILES_MAX).cloned() {
            let dropped = listed.split_off(&beyond).len();
            self.trouble = Some(Refused::new(
                Reason::TooManyFiles,
                format!("holds more than {FILES_MAX} manifests; the last {dropped} by name are not read"),
            ));
        }
        self.files.retain(|name, _| listed.contains(name));
        for name in listed {
            let path = self.path.join(&name);
            self.files.entry(name).or_default().refresh(&path);
        }
    }
}

impl Manifest {
    fn refresh(&mut self, path: &Path) {
        let text = match read(path) {
            Ok(text) => text,
            Err(refused) => {
                self.digest = None;
                self.trouble = Some(refused);
                return;
            }
        };
        let digest = digest(&text);
        if self.digest == Some(digest) {
            return;
        }
        self.digest = Some(digest);
        if text.is_empty() && !self.document.objects.is_empty() {
            self.trouble = Some(Refused::new(
                Reason::Empty,
                "is empty; what it said last holds on: delete the file to remove its objects",
            ));
            return;
        }
        let name = path.display().to_string();
        match document::parse(&name, &text, syntax(&name).unwrap_or(Syntax::Yaml)) {
            Ok(document) => self.replace(document),
            Err(detail) => self.trouble = Some(Refused::new(Reason::Unparsable, detail)),
        }
    }

    /// Takes new content; what of it did not convert keeps its last good version.
    fn replace(&mut self, mut document: Document) {
        let there: BTreeSet<_> = document.objects.iter().map(Object::key).collect();
        let kept = std::mem::take(&mut self.document.objects).into_iter().filter(|object| {
            let key = object.key();
            document.lost.contains(&key) && !there.contains(&key)
        });
        document.objects.extend(kept);
        self.document = document;
        self.trouble = None;
    }
}

/// None for a file that is no manifest: another ending, hidden, or an editor's (`.name.swp`, `#name#`, `name~`).
fn syntax(name: &str) -> Option<Syntax> {
    let base = name.rsplit('/').next().unwrap_or(name);
    if base.starts_with(['.', '#']) {
        return None;
    }
    let (_, ending) = base.rsplit_once('.')?;
    match ending {
        "yaml" | "yml" => Some(Syntax::Yaml),
        "json" => Some(Syntax::Json),
        _ => None,
    }
}

fn read(path: &Path) -> Result<String, Refused> {
    let unreadable = |error: io::Error| Refused::new(Reason::Unreadable, error.to_string());
    let mut bytes = Vec::new();
    // a FIFO may have taken the file's place since the directory was listed: opening it would wait for a writer for ever
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(Refused::new(Reason::Unreadable, "is no regular file".to_owned()));
    }
    // one byte more than may be tells that there is more, even if the file grows
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Refused::new(
            Reason::TooLarge,
            format!("is larger than {FILE_BYTES_MAX} bytes; split it"),
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Refused::new(Reason::Unparsable, format!("byte {at} is not UTF-8"))
    })
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
