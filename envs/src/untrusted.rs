//! Reading files that nobody vouches for: regular ones only, and never more of them than there is room for.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// Opens the regular file at `path`.
///
/// # Errors
/// The system's, and one of kind `InvalidInput` for a folder, a pipe or a device.
pub fn open(path: &Path) -> io::Result<File> {
    // Asked before opening: opening a pipe would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"));
    }
    File::open(path)
}

/// Opens the regular file at `path`, if it has at most `most` bytes.
///
/// # Errors
/// As [`open`], and one of kind `FileTooLarge` that says how large the file is.
pub fn open_up_to(path: &Path, most: u64) -> io::Result<File> {
    let file = open(path)?;
    let bytes = file.metadata()?.len();
    if bytes > most {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("{bytes} bytes, at most {most} are read")));
    }
    Ok(file)
}

/// The content of the regular file at `path`, if it has at most `most` bytes; of a larger one nothing is read.
///
/// # Errors
/// As [`open_up_to`].
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_up_to(path, most)?;
    let mut content = Vec::with_capacity(file.metadata()?.len().min(most) as usize);
    // What it may have grown by since is left out.
    file.take(most).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_budget_and_no_further() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "four").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"four");
        let refused = read(&path, 3).unwrap_err();
        assert_eq!(
            (refused.kind(), refused.to_string().as_str()),
            (ErrorKind::FileTooLarge, "4 bytes, at most 3 are read")
        );
        assert_eq!(read(dir.path(), 4).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(read(&dir.path().join("none"), 4).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_without_a_writer_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert_eq!(read(&path, 4).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
