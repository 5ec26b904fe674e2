//! Scalars in the format that TensorBoard reads: records of length and checksum, each an `Event`.
//!
//! Messages and records are those of `tensorboard-rs`; its own file writer is not used, since it panics when the disk is
//! full.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use envs::storage::{self, At, Failed, Sink, Storage};
use protobuf::Message as _;
use tensorboard_proto::event::{Event, SessionLog, SessionLog_SessionStatus};
use tensorboard_rs::record_writer::RecordWriter;
use tensorboard_rs::summary;

/// One file of events.
pub struct EventFile {
    path: PathBuf,
    records: RecordWriter<Box<dyn Sink>>,
}

impl EventFile {
    /// A new file in `folder`, which is made where it is missing. What earlier files of the folder have beyond `step`
    /// belongs to an attempt that was cut off, and is not shown.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn create(storage: &dyn Storage, folder: &Path, step: u64) -> Result<Self, Failed> {
        storage::create_folders(storage, folder)?;
        let name = format!("events.out.tfevents.{:010}.{}", now() as u64, std::process::id());
        let path = folder.join(name);
        let mut events = Self { records: RecordWriter::new(storage.create(&path).at("create", &path)?), path };
        let mut version = event(0);
        version.set_file_version("brain.Event:2".to_owned());
        events.write(&version)?;
        let mut log = SessionLog::new();
        log.set_status(SessionLog_SessionStatus::START);
        let mut start = event(step + 1);
        start.set_session_log(log);
        events.write(&start)?;
        Ok(events)
    }

    /// Adds the scalars of one step.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> Result<(), Failed> {
        for (name, number) in scalars {
            let mut event = event(step);
            event.set_summary(summary::scalar(name, *number as f32));
            self.write(&event)?;
        }
        Ok(())
    }

    fn write(&mut self, event: &Event) -> Result<(), Failed> {
        let bytes = event.write_to_bytes().map_err(std::io::Error::other).at("encode an event for", &self.path)?;
        self.records.write(&bytes).at_writing(bytes.len() as u64, &self.path)
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// The fields that every event has.
fn event(step: u64) -> Event {
    let mut event = Event::new();
    event.set_wall_time(now());
    event.set_step(step as i64);
    event
}

#[cfg(test)]
mod tests {
    use envs::storage::{Disk, Faults};

    use super::*;

    #[test]
    fn records_hold_events_as_the_format_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(&Disk, dir.path(), 299).unwrap();
        events.scalars(300, &[("a", 0.5), ("b", -2.0)]).unwrap();
        let file = std::fs::read(&events.path).unwrap();
        let mut records = Vec::new();
        let mut rest = &file[..];
        while let Some((length, after)) = rest.split_first_chunk::<8>() {
            let (event, after) = after[4..].split_at(u64::from_le_bytes(*length) as usize);
            records.push(event);
            rest = &after[4..];
        }
        // Nine bytes of wall time come first; 300 is the varint ac 02.
        assert!(records[0].ends_with(b"\x1a\x0dbrain.Event:2"));
        assert_eq!(records[1][9..], *b"\x10\xac\x02\x3a\x02\x08\x01");
        assert_eq!(records[2][9..], *b"\x10\xac\x02\x2a\x0a\x0a\x08\x0a\x01a\x15\x00\x00\x00\x3f");
        assert_eq!(records[3][9..], *b"\x10\xac\x02\x2a\x0a\x0a\x08\x0a\x01b\x15\x00\x00\x00\xc0");
    }

    #[test]
    fn a_full_disk_is_an_error_and_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Faults::new(Disk, "enospc@write:9+".parse().unwrap());
        let mut events = EventFile::create(&storage, dir.path(), 0).unwrap();
        let error = events.scalars(1, &[("a", 0.5)]).unwrap_err();
        assert!(error.free.is_some() && error.to_string().contains("tfevents"), "{error}");
    }
}
