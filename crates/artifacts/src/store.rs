//! Content-addressed blobs.

use crate::bundle::{Bundle, BundleError};
use bytes::Bytes;
use comfy_graph::{ArtifactRef, Digest, Media};
use object_store::{
    ObjectStore, ObjectStoreExt as _, PutPayload, local::LocalFileSystem, path::Path as ObjectPath,
};
use std::path::Path;
use std::sync::Arc;

/// Where blobs live. Cloning shares the store.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
}

/// Why a blob could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the artifact volume failed")]
    Volume(#[from] object_store::Error),
    #[error("the artifact folder cannot be made")]
    Folder(#[source] std::io::Error),
    #[error("artifact `{0}` is lost")]
    Lost(Digest),
    #[error("artifact `{0}` does not hold what was written: its bytes have changed")]
    Damaged(Digest),
    #[error("artifact `{digest}` is not a tensor bundle")]
    NotABundle { digest: Digest, source: BundleError },
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

impl Store {
    /// Opens the store in a folder of the local file system, which is made if it is missing. Every write is
    /// flushed to the disk before it counts.
    ///
    /// # Errors
    /// When the folder cannot be made or used.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(root).map_err(StoreError::Folder)?;
        let local = LocalFileSystem::new_with_prefix(root)?.with_fsync(true);
        Ok(Self { objects: Arc::new(local) })
    }

    fn path(digest: &Digest) -> ObjectPath {
        let name = digest.as_str();
        ObjectPath::from(format!("blobs/{}/{name}", &name[..2]))
    }

    /// Writes a blob and names it by its content. A blob that is already there is not written again.
    ///
    /// # Errors
    /// When the volume fails or is full.
    pub async fn put(&self, bytes: Vec<u8>, media: Media) -> Result<ArtifactRef, StoreError> {
        let artifact = ArtifactRef { digest: Digest::of(&bytes), bytes: bytes.len() as u64, media };
        // A damaged file has the right name and maybe the right length, so presence alone proves nothing.
        if self.get(&artifact).await.is_err() {
            self.objects.put(&Self::path(&artifact.digest), PutPayload::from(bytes)).await?;
        }
        Ok(artifact)
    }

    /// Reads a blob and checks that it is what was written.
    ///
    /// # Errors
    /// [`StoreError::Lost`] when it is gone, [`StoreError::Damaged`] when its bytes have changed.
    pub async fn get(&self, artifact: &ArtifactRef) -> Result<Bytes, StoreError> {
        let found = match self.objects.get(&Self::path(&artifact.digest)).await {
            Err(object_store::Error::NotFound { .. }) => {
                return Err(StoreError::Lost(artifact.digest.clone()));
            }
            other => other?,
        };
        let bytes = found.bytes().await?;
        if bytes.len() as u64 != artifact.bytes || Digest::of(&bytes) != artifact.digest {
            return Err(StoreError::Damaged(artifact.digest.clone()));
        }
        Ok(bytes)
    }

    /// Whether a blob is there with the right length. Cheap: the content is not read.
    ///
    /// # Errors
    /// When the volume fails.
    pub async fn contains(&self, artifact: &ArtifactRef) -> Result<bool, StoreError> {
        match self.objects.head(&Self::path(&artifact.digest)).await {
            Ok(found) => Ok(found.size == artifact.bytes),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a bundle of tensors.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn put_bundle(&self, bundle: &Bundle) -> Result<ArtifactRef, StoreError> {
        self.put(bundle.encode()?, bundle.media()).await
    }

    /// Reads a bundle of tensors.
    ///
    /// # Errors
    /// As [`Store::get`], and when the blob is something else.
    pub async fn get_bundle(&self, artifact: &ArtifactRef) -> Result<Bundle, StoreError> {
        let bytes = self.get(artifact).await?;
        Bundle::decode(&bytes)
            .map_err(|source| StoreError::NotABundle { digest: artifact.digest.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn blobs_are_found_by_content_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let artifact = store.put(b"hello".to_vec(), Media::Json).await.unwrap();
        assert_eq!(artifact, store.put(b"hello".to_vec(), Media::Json).await.unwrap());
        assert_eq!(store.get(&artifact).await.unwrap(), "hello");
        assert!(store.contains(&artifact).await.unwrap());

        let file = dir.path().join(Store::path(&artifact.digest).as_ref());
        std::fs::write(&file, b"hellO").unwrap();
        assert!(matches!(store.get(&artifact).await, Err(StoreError::Damaged(_))));
        // Writing again repairs the blob.
        store.put(b"hello".to_vec(), Media::Json).await.unwrap();
        assert_eq!(store.get(&artifact).await.unwrap(), "hello");

        std::fs::remove_file(&file).unwrap();
        assert!(matches!(store.get(&artifact).await, Err(StoreError::Lost(_))));
        assert!(!store.contains(&artifact).await.unwrap());
    }
}
