//! What lies in a folder of published data: the names of its files, of which nothing is opened yet.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Endings, World};
use crate::import::ImportError;
use crate::storage::At;

/// A folder that has files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub path: PathBuf,
    /// What it is called, with the folder that was given if it lies in that.
    pub name: String,
    /// Names of the files, in order.
    pub files: Vec<String>,
}

/// The files in `dir` and in the folders in it.
pub(super) fn listed(dir: &Path) -> Result<Vec<Listed>, ImportError> {
    let place = dir.canonicalize().at("open", dir)?;
    let name = place.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let [files, below] = list(dir)?;
    let mut all = vec![Listed { path: dir.to_owned(), name: name.clone(), files }];
    for folder in below {
        let path = dir.join(&folder);
        let [files, deeper] = list(&path)?;
        if let Some(deeper) = deeper.first() {
            let reason = "a folder that lies too deep: give the folder of one split, such as sunday_v2_training";
            return Err(refuse(path.join(deeper), reason));
        }
        all.push(Listed { path, name: format!("{name}/{folder}"), files });
    }
    all.retain(|folder| !folder.files.is_empty());
    Ok(all)
}

/// Names of the files and of the folders in `folder`, in order.
fn list(folder: &Path) -> Result<[Vec<String>; 2], ImportError> {
    let [mut files, mut folders] = [Vec::new(), Vec::new()];
    for item in fs::read_dir(folder).at("list", folder)? {
        let item = item.at("list", folder)?;
        if item.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let kind = item.file_type().at("look at", &item.path())?;
        let name =
            item.file_name().into_string().ok().filter(|name| is_plain(name)).ok_or_else(|| {
                refuse(item.path(), "a name of other than letters and digits of ASCII, `_`, `-` and `.`")
            })?;
        if kind.is_symlink() {
            return Err(refuse(item.path(), "a link; links are not followed"));
        }
        if kind.is_file() {
            files.push(name);
        } else if kind.is_dir() {
            folders.push(name);
        } else {
            return Err(refuse(item.path(), "neither a file nor a folder"));
        }
    }
    for names in [&mut files, &mut folders] {
        names.sort_by(|a, b| in_order(a).cmp(&in_order(b)));
    }
    Ok([files, folders])
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// What names are ordered by: 2 comes before 10.
fn in_order(name: &str) -> (usize, &str) {
    (name.len(), name)
}

fn refuse(path: PathBuf, reason: impl Into<String>) -> ImportError {
    ImportError::Folder { path, reason: reason.into() }
}

/// The world that the files are of, by their names.
pub(super) fn world_of(folders: &[Listed]) -> Option<World> {
    let has = |world: World| {
        let Endings { video, actions, .. } = world.endings();
        let mut files = folders.iter().flat_map(|folder| &folder.files);
        files.any(|file| file.ends_with(video) || file.ends_with(actions))
    };
    // Those of MNIST World are the ends of those of Blockworld.
    [World::Block, World::Mnist].into_iter().find(|world| has(*world))
}

/// What the files of a folder make.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pairs {
    /// What is an episode's own of the names of its two files, in order.
    pub stems: Vec<String>,
    /// Endings of files that are left out.
    pub others: Vec<&'static str>,
}

/// The episodes in a folder of `world`.
pub(super) fn pairs(world: World, folder: &Listed) -> Result<Pairs, ImportError> {
    let Endings { video, actions, others: left_out } = world.endings();
    let mut found: BTreeMap<(usize, &str), [bool; 2]> = BTreeMap::new();
    let mut others = Vec::new();
    for file in &folder.files {
        if let Some(ending) = left_out.iter().find(|ending| file.ends_with(**ending)) {
            others.push(*ending);
            continue;
        }
        let half = [video, actions]
            .into_iter()
            .enumerate()
            .find_map(|(half, ending)| Some((half, file.strip_suffix(ending).filter(|stem| !stem.is_empty())?)));
        let Some((half, stem)) = half else {
            let left_out = left_out.join(", NNNN");
            let expected = format!("expected NNNN{video} with NNNN{actions}, and perhaps NNNN{left_out}");
            return Err(refuse(folder.path.join(file), format!("no file of {}; {expected}", world.name())));
        };
        found.entry(in_order(stem)).or_default()[half] = true;
    }
    let alone = found.iter().find(|(_, halves)| halves.contains(&false));
    if let Some((&(_, stem), &[has_video, _])) = alone {
        let [there, missing] = if has_video { [video, actions] } else { [actions, video] };
        let reason = format!("it lies there without {stem}{missing}; an episode of {} has both", world.name());
        return Err(refuse(folder.path.join(format!("{stem}{there}")), reason));
    }
    others.sort_unstable();
    others.dedup();
    Ok(Pairs { stems: found.into_keys().map(|(_, stem)| stem.to_owned()).collect(), others })
}
