//! Where a Blockworld's textures come from, as a configuration says it.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use simulators::block_world::Surfaces;

use crate::env::EnvError;

/// Where the textures come from.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TextureSource {
    /// Drawn by Mindseye; needs no file.
    Drawn {},
    /// PNG files, `NAME_1.png` or `NAME.png`, by the original's names.
    Files {
        /// Where they are.
        folder: PathBuf,
    },
}

impl Default for TextureSource {
    fn default() -> Self {
        Self::Drawn {}
    }
}

impl TextureSource {
    /// The textures.
    ///
    /// # Errors
    /// A file that is not there, or is no picture, with `env` as the id of who wants it.
    pub fn surfaces(&self, env: &str) -> Result<Arc<Surfaces>, EnvError> {
        match self {
            Self::Drawn {} => Ok(Surfaces::drawn()),
            Self::Files { folder } => match Surfaces::read(folder) {
                Ok(surfaces) => Ok(Arc::new(surfaces)),
                Err(source) => Err(EnvError::Textures { env: env.to_owned(), source }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_them_is_refused_by_file() {
        let files: TextureSource = serde_json::from_str(r#"{"kind":"files","folder":"no/such"}"#).unwrap();
        let error = files.surfaces("X-v0").unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.starts_with("no/such/white_1.png: ") && source.contains("NAME.png"), "{source}");
        assert!(serde_json::from_str::<TextureSource>(r#"{"kind":"drawn","folder":"x"}"#).is_err());
    }
}
