//! An image as an OCI image layout (image-spec 1.1) in one tar archive, as `ctr images import`, `podman load` and `docker load` read it.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType};

use super::layer::{self, Layer};

/// Media types of the image-spec.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Uncompressed: the archive is read once, from a disk nearby.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Where programs are looked for inside of the image.
const PATH: &str = "PATH=/usr/bin:/bin";
/// When every image was made: a real time would make each build another image.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// An image: one layer, and how its program is started.
#[derive(Clone, Debug)]
pub struct Image {
    /// The full reference, with a tag.
    pub name: String,
    /// The processor's name as Go writes it (`amd64`).
    pub architecture: &'static str,
    /// The program that a container runs, with its arguments; none if each pod names its own.
    pub entrypoint: Vec<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// What is in it.
    pub layer: Layer,
}

/// Content that is addressed by its digest, and what refers to it.
struct Blob {
    media_type: &'static str,
    bytes: Vec<u8>,
    sha256: String,
}

impl Image {
    /// The reference without registry and tag.
    pub fn short_name(&self) -> &str {
        let name = self.name.rsplit('/').next().unwrap_or(&self.name);
        name.split(':').next().unwrap_or(name)
    }

    /// The whole archive. The same image gives the same bytes.
    ///
    /// # Errors
    /// If a path in the image is longer than the format allows.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let layer = Blob::new(LAYER, self.layer.tar()?);
        let config = Blob::json(CONFIG, &self.config(&layer));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
        });
        let manifest = Blob::json(MANIFEST, &manifest);
        let mut files = BTreeMap::from([
            (
                "oci-layout".to_owned(),
                json!({"imageLayoutVersion": "1.0.0"}).to_string().into_bytes(),
            ),
            ("index.json".to_owned(), self.index(&manifest).to_string().into_bytes()),
        ]);
        files.extend([layer, config, manifest].map(|blob| (format!("blobs/sha256/{}", blob.sha256), blob.bytes)));
        let mut tar = Builder::new(Vec::new());
        for directory in ["blobs/", "blobs/sha256/"] {
            tar.append_data(&mut layer::header(EntryType::Directory, 0o755, 0), directory, &[][..])?;
        }
        for (path, bytes) in &files {
            let mut header = layer::header(EntryType::Regular, 0o644, bytes.len() as u64);
            tar.append_data(&mut header, path, bytes.as_slice())?;
        }
        Ok(tar.into_inner()?)
    }

    fn config(&self, layer: &Blob) -> Value {
        let mut config = json!({"Env": [PATH], "WorkingDir": "/", "Labels": self.labels});
        if !self.entrypoint.is_empty() {
            config["Entrypoint"] = json!(self.entrypoint);
        }
        json!({
            "created": CREATED,
            "architecture": self.architecture,
            "os": "linux",
            "config": config,
            // the layer is not compressed, so that its digest is the content's
            "rootfs": {"type": "layers", "diff_ids": [layer.digest()]},
            "history": [{"created": CREATED, "created_by": "cargo xtask image"}],
        })
    }

    fn index(&self, manifest: &Blob) -> Value {
        let mut descriptor = manifest.descriptor();
        descriptor["platform"] = json!({"architecture": self.architecture, "os": "linux"});
        // the first is read by podman and skopeo, the second by containerd and docker
        descriptor["annotations"] =
            json!({"org.opencontainers.image.ref.name": self.name, "io.containerd.image.name": self.name});
        json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]})
    }
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        let sha256 = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            media_type,
            bytes,
            sha256,
        }
    }

    fn json(media_type: &'static str, value: &Value) -> Self {
        Self::new(media_type, value.to_string().into_bytes())
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.sha256)
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len()})
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn image() -> Image {
        Image {
            name: "weft.mesh/thing:1.2".into(),
            architecture: "amd64",
            entrypoint: vec!["/thing".into()],
            labels: [("title".into(), "thing".into())].into(),
            layer: Layer::default().file("/thing", 0o755, b"code".into()),
        }
    }

    /// The files of an archive by path.
    fn unpacked(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (path, bytes)
        });
        entries.collect()
    }

    fn parsed(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    /// The blob that a descriptor names, after a look at its size and digest.
    fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
        let digest = descriptor["digest"].as_str().unwrap();
        let bytes = &files[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(descriptor["size"], bytes.len());
        let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, format!("sha256:{sha256}"));
        bytes
    }

    #[test]
    fn the_same_image_gives_the_same_bytes() {
        let bytes = image().archive().unwrap();
        assert_eq!(bytes, image().archive().unwrap());
        let mut other = image();
        other.layer = other.layer.file("/more", 0o644, Vec::new());
        assert_ne!(bytes, other.archive().unwrap());
    }

    #[test]
    fn every_descriptor_leads_to_its_blob() {
        let files = unpacked(&image().archive().unwrap());
        assert_eq!(parsed(&files["oci-layout"])["imageLayoutVersion"], "1.0.0");
        let index = parsed(&files["index.json"]);
        assert_eq!(index["schemaVersion"], 2);
        let descriptor = &index["manifests"][0];
        assert_eq!(descriptor["mediaType"], MANIFEST);
        assert_eq!(descriptor["platform"], json!({"architecture": "amd64", "os": "linux"}));
        for key in ["org.opencontainers.image.ref.name", "io.containerd.image.name"] {
            assert_eq!(descriptor["annotations"][key], "weft.mesh/thing:1.2");
        }
        let manifest = parsed(blob(&files, descriptor));
        let config = parsed(blob(&files, &manifest["config"]));
        let layer = &manifest["layers"][0];
        assert_eq!(config["rootfs"]["diff_ids"][0], layer["digest"]);
        assert_eq!(config["config"]["Entrypoint"], json!(["/thing"]));
        assert_eq!(config["config"]["Labels"]["title"], "thing");
        assert_eq!(unpacked(blob(&files, layer))["thing"], b"code");
        let blobs = files
            .keys()
            .filter(|path| path.starts_with("blobs/sha256/") && !path.ends_with('/'));
        assert_eq!(blobs.count(), 3, "config, layer and manifest, nothing else");
    }

    #[test]
    fn an_archive_is_called_as_its_image() {
        for (name, short) in [
            ("weft.mesh/mesh-daemon:0.1.0", "mesh-daemon"),
            ("host:5000/a/b:1", "b"),
            ("plain", "plain"),
        ] {
            let name = name.to_owned();
            assert_eq!(Image { name, ..image() }.short_name(), short);
        }
    }
}
