//! Frames of a video as bytes, decoded by the program `ffmpeg` as a child: no shell, no network, one codec, bounded in size and time.
//!
//! A video may have been made by somebody who means harm, so ffmpeg is told all it may do: read this one file, as MP4 and nothing that
//! names other files, by its decoder of H.264. Frames come one after the other through a pipe as PPM, which says the size of each, and no
//! more is read than was asked for. The conversion to RGB is the exact one, whose bits do not depend on the processor.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long ffmpeg may give nothing before it is stopped.
const PATIENCE: Duration = Duration::from_mins(1);
/// Pixels of the largest picture that ffmpeg decodes at all.
const MOST_PIXELS: u32 = 1 << 20;
/// Bytes that ffmpeg may ask for at a time, whatever a file claims.
const MOST_BYTES: u32 = 64 << 20;
/// Bytes that are kept of what ffmpeg says about a file.
const SAID: u64 = 600;
/// The version from which on timestamps are left alone by `-fps_mode`; before it, by `-vsync`.
const FPS_MODE_SINCE: (u32, u32) = (5, 1);

/// Why a video gives no frames.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VideoError {
    /// There is no ffmpeg.
    #[error(
        "videos are decoded by `ffmpeg`, which is not installed here; install the package `ffmpeg` (apt-get install ffmpeg, \
         dnf install ffmpeg-free, brew install ffmpeg)"
    )]
    Missing,
    /// It is there and does not run.
    #[error("{} cannot be run", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It does not say a version, so it may be another program.
    #[error("{} is no ffmpeg: `{} -version` says {said:?}", program.display(), program.display())]
    Foreign {
        /// The program.
        program: PathBuf,
        /// Its first line.
        said: String,
    },
    /// What comes from it cannot be read.
    #[error("what ffmpeg decodes cannot be read")]
    Read(#[source] io::Error),
    /// It gives up.
    #[error("ffmpeg refuses it ({status}): {said}")]
    Refused {
        /// How it ended.
        status: ExitStatus,
        /// The beginning of what it says.
        said: String,
    },
    /// It gives nothing.
    #[error("ffmpeg gave nothing for {0:?}, and was stopped")]
    Stuck(Duration),
    /// Pictures of a size that is not wanted.
    #[error("its pictures are {found}; allowed: {width}x{height}")]
    Size {
        /// Their size.
        found: String,
        /// The width they should have.
        width: usize,
        /// The height.
        height: usize,
    },
}

/// An ffmpeg that can be run.
#[derive(Debug)]
pub(super) struct Decoder {
    program: PathBuf,
    version: String,
    patience: Duration,
}

impl Decoder {
    /// The ffmpeg that is installed.
    pub fn find() -> Result<Self, VideoError> {
        Self::of(Path::new("ffmpeg"), PATIENCE)
    }

    fn of(program: &Path, patience: Duration) -> Result<Self, VideoError> {
        let output = ffmpeg(program).arg("-version").output().map_err(|source| refused(program, source))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().next().unwrap_or_default();
        let version = line.strip_prefix("ffmpeg version ").and_then(|rest| rest.split_whitespace().next());
        let Some(version) = version else {
            let said = line.chars().take(100).collect();
            return Err(VideoError::Foreign { program: program.to_owned(), said });
        };
        Ok(Self { program: program.to_owned(), version: version.to_owned(), patience })
    }

    /// What it calls itself, such as `5.1.9`. Another version could decode other bytes.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Begins to decode the first video stream of the MP4 file at `path`, whose pictures should have `[height, width]` pixels.
    pub fn open(&self, path: &Path, size: [usize; 2]) -> Result<Video, VideoError> {
        let mut name = OsString::from("file:");
        name.push(path);
        let timestamps = if has_fps_mode(&self.version) { ["-fps_mode", "passthrough"] } else { ["-vsync", "0"] };
        let mut command = ffmpeg(&self.program);
        command.args(["-nostdin", "-hide_banner", "-v", "error", "-xerror", "-max_alloc", &MOST_BYTES.to_string()]);
        command.args(["-protocol_whitelist", "file", "-codec_whitelist", "h264", "-f", "mp4", "-noautorotate"]);
        command.args(["-err_detect", "explode", "-threads", "1", "-max_pixels", &MOST_PIXELS.to_string()]);
        command.arg("-i").arg(name).args(["-map", "0:v:0"]).args(timestamps);
        command.args(["-sws_flags", "bicubic+accurate_rnd+bitexact", "-pix_fmt", "rgb24", "-threads", "1"]);
        command.args(["-c:v", "ppm", "-f", "image2pipe", "pipe:1"]);
        // Not in our group: a Ctrl-C is for us alone, and we end between episodes.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|source| refused(&self.program, source))?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (out, err) = out.zip(err).expect("both were asked for");
        let said = Some(thread::spawn(move || beginning(err)));
        Ok(Video { child, out, said, size, patience: self.patience })
    }
}

/// The command, without what in the environment would have it write files or colours.
fn ffmpeg(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_remove("FFREPORT").env_remove("AV_LOG_FORCE_COLOR").env("AV_LOG_FORCE_NOCOLOR", "1");
    command
}

fn refused(program: &Path, source: io::Error) -> VideoError {
    match source.kind() {
        ErrorKind::NotFound => VideoError::Missing,
        _ => VideoError::Run { program: program.to_owned(), source },
    }
}

/// The beginning of all that is said; the rest is read too, so that whoever says it never waits.
fn beginning(mut from: ChildStderr) -> String {
    let mut said = Vec::new();
    // What cannot be read is not said.
    let _ = from.by_ref().take(SAID).read_to_end(&mut said);
    let _ = io::copy(&mut from, &mut io::sink());
    String::from_utf8_lossy(&said).trim().replace('\n', "; ")
}

/// Whether an ffmpeg of this version has the newer of two options. What is built from the sources has names such as `N-109542-g`.
fn has_fps_mode(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('n').split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|digits| digits.parse::<u32>().ok());
    number().is_none_or(|major| (major, number().unwrap_or(0)) >= FPS_MODE_SINCE)
}

/// A video that is being decoded. Dropped, it is no longer.
#[derive(Debug)]
pub(super) struct Video {
    child: Child,
    out: ChildStdout,
    /// What ffmpeg says, once it has ended.
    said: Option<JoinHandle<String>>,
    size: [usize; 2],
    patience: Duration,
}

impl Video {
    /// Decodes the next picture into `rgb`, `[height, width, 3]`; false at the end of the video.
    pub fn frame(&mut self, rgb: &mut [u8]) -> Result<bool, VideoError> {
        let [height, width] = self.size;
        let expected = format!("P6\n{width} {height}\n255\n");
        let mut header = vec![0; expected.len()];
        let read = self.fill(&mut header)?;
        if read < header.len() {
            self.end()?;
        }
        if read == 0 {
            return Ok(false);
        }
        if header != expected.as_bytes() {
            // Larger numbers make a header longer.
            header.resize(expected.len() + 16, 0);
            self.fill(&mut header[expected.len()..])?;
            let found = size_of(&header).unwrap_or_else(|| "no picture".to_owned());
            return Err(VideoError::Size { found, width, height });
        }
        if self.fill(rgb)? < rgb.len() {
            self.end()?;
            return Err(VideoError::Read(ErrorKind::UnexpectedEof.into()));
        }
        Ok(true)
    }

    /// Reads until `to` is full, or to the end; how many bytes that were.
    fn fill(&mut self, to: &mut [u8]) -> Result<usize, VideoError> {
        let mut read = 0;
        while read < to.len() {
            self.wait_for_more()?;
            match self.out.read(&mut to[read..]) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(VideoError::Read(error)),
            }
        }
        Ok(read)
    }

    fn wait_for_more(&self) -> Result<(), VideoError> {
        let patience = Timespec::try_from(self.patience).expect("a minute fits");
        loop {
            match poll(&mut [PollFd::new(&self.out, PollFlags::IN)], Some(&patience)) {
                Ok(0) => return Err(VideoError::Stuck(self.patience)),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(VideoError::Read(error.into())),
            }
        }
    }

    /// Whether ffmpeg, which closed its output, was content.
    fn end(&mut self) -> Result<(), VideoError> {
        let status = self.child.wait().map_err(VideoError::Read)?;
        if status.success() {
            return Ok(());
        }
        let said = self.said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        Err(VideoError::Refused { status, said })
    }
}

impl Drop for Video {
    fn drop(&mut self) {
        // It has ended already, or is not wanted any more; either way it must be waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Width and height in the header of a PPM picture.
fn size_of(header: &[u8]) -> Option<String> {
    // After what says that it is one.
    let mut words = header.split(u8::is_ascii_whitespace).skip(1);
    let mut number = || str::from_utf8(words.next()?).ok()?.parse::<u32>().ok();
    Some(format!("{}x{}", number()?, number()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program that says it is ffmpeg, and then does `work`.
    fn pretended(dir: &Path, work: &str, patience: Duration) -> Result<Decoder, VideoError> {
        let program = dir.join("pretended");
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = -version ]; then echo 'ffmpeg version 9.1-x Copyright'; exit; fi\n{work}\n"
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        Decoder::of(&program, patience)
    }

    fn frames(work: &str) -> Result<Vec<[u8; 3]>, VideoError> {
        frames_within(PATIENCE, work)
    }

    fn frames_within(patience: Duration, work: &str) -> Result<Vec<[u8; 3]>, VideoError> {
        let dir = tempfile::tempdir().unwrap();
        let decoder = pretended(dir.path(), work, patience)?;
        assert_eq!(decoder.version(), "9.1-x");
        let mut video = decoder.open(Path::new("any.mp4"), [1, 1])?;
        let mut all = Vec::new();
        let mut rgb = [0; 3];
        while video.frame(&mut rgb)? {
            all.push(rgb);
        }
        Ok(all)
    }

    #[test]
    fn pictures_are_read_to_the_end() {
        assert_eq!(frames(r"printf 'P6\n1 1\n255\nabcP6\n1 1\n255\n123'").unwrap(), [*b"abc", *b"123"]);
        assert_eq!(frames("exit 0").unwrap(), [[0; 3]; 0]);
    }

    #[test]
    fn what_goes_wrong_is_told() {
        for (work, expected) in [
            (r"printf 'P6\n1 1\n255\nab'", "what ffmpeg decodes cannot be read"),
            (r"printf 'P6\n1 1\n255\nab'; echo worn out >&2; exit 3", "ffmpeg refuses it (exit status: 3): worn out"),
            ("echo one >&2; echo two >&2; exit 1", "ffmpeg refuses it (exit status: 1): one; two"),
            (r"printf 'P6\n1234 567\n255\nabc'", "its pictures are 1234x567; allowed: 1x1"),
            (r"printf 'nonsense'", "its pictures are no picture; allowed: 1x1"),
        ] {
            assert_eq!(frames(work).unwrap_err().to_string(), expected, "{work}");
        }
    }

    #[test]
    fn one_that_gives_nothing_is_stopped() {
        for work in ["exec sleep 1000", r"printf 'P6\n1'; exec sleep 1000"] {
            let error = frames_within(Duration::from_millis(50), work).unwrap_err();
            assert_eq!(error.to_string(), "ffmpeg gave nothing for 50ms, and was stopped", "{work}");
        }
    }

    #[test]
    fn a_program_that_says_more_than_anyone_reads_does_not_wait() {
        let said = frames(
            "i=0; while [ $i -lt 3000 ]; do echo 0123456789012345678901234567890123456789 >&2; i=$((i+1)); done; exit 1",
        );
        let said = said.unwrap_err().to_string();
        assert!(said.contains("0123456789; 0123") && said.len() < 700, "{said}");
    }

    #[test]
    fn another_program_or_none_is_told() {
        let of = |program: &str| Decoder::of(Path::new(program), PATIENCE).unwrap_err().to_string();
        assert!(of("/nowhere/ffmpeg").contains("install the package `ffmpeg`"));
        assert_eq!(of("/bin/echo"), r#"/bin/echo is no ffmpeg: `/bin/echo -version` says "-version""#);
    }

    #[test]
    fn versions_have_the_option_from_5_1_on() {
        for (version, has) in [
            ("4.4.2-0ubuntu0.22.04.1", false),
            ("5.0", false),
            ("5.1.9-0+deb12u1", true),
            ("n7.1", true),
            ("10", true),
            ("N-109542-g", true),
        ] {
            assert_eq!(has_fps_mode(version), has, "{version}");
        }
    }
}
