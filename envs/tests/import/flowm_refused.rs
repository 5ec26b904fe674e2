//! Published data of FloWM that is not as it should be, or means harm: refused by name, with what would be right.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use envs::dataset::RecordedEpisode;
use envs::import::flowm::{Flowm, World, actions};
use proptest::prelude::*;

use crate::fixture;
use crate::published::{LOSSLESS, block_actions, has_ffmpeg, mnist_actions, video};
use crate::torch_save::{Tensor, dict, file, saved, tensors, text};

/// What is said of the folder `dir`, of which every episode is read.
fn said_of(dir: &Path, world: Option<World>) -> String {
    let source = match Flowm::open(&[dir.to_owned()], world) {
        Ok(source) => source,
        Err(error) => return error.to_string(),
    };
    let read = (0..source.episodes()).map(|k| RecordedEpisode::new(&source, k));
    read.collect::<Result<Vec<_>, _>>().err().map_or_else(|| "nothing".to_owned(), |error| error.to_string())
}

/// A folder with the episode 0000 of Blockworld, of three frames.
fn block_world() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    block_actions(dir.path(), "0000", &[2, 0, 4]);
    video(&dir.path().join("0000_rgb.mp4"), &pictures(128, 3), 128, &LOSSLESS);
    dir
}

/// Frames without a pattern.
fn pictures(side: usize, frames: usize) -> Vec<u8> {
    (0..(frames * side * side * 3) as u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn actions_that_are_none_of_the_world_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let block = |numbers: &[i64]| actions(&block_actions(dir.path(), "0", numbers), World::Block);
    let mnist = |numbers: &[i64]| actions(&mnist_actions(dir.path(), "0", numbers), World::Mnist);
    assert_eq!(block(&[0, 4]).unwrap(), [0, 4]);
    assert_eq!(mnist(&[0, 0, 10, -10]).unwrap(), [0, 0, 10, -10]);
    for (read, expected) in [
        (block(&[2, 5]), "`actions` has 5 at frame 1; block-world has integers 0..=4"),
        (block(&[-1, 0]), "`actions` has -1 at frame 0; block-world has integers 0..=4"),
        (block(&[0, i64::MAX]), "`actions` has 9223372036854775807 at frame 1"),
        (block(&[2]), "`actions` has 1 frames; allowed: 2..=5461"),
        (block(&vec![2; 5462]), "`actions` has 5462 frames; allowed: 2..=5461"),
        (mnist(&[0, 0, 11, 0]), "`actions` has 11 at frame 1; mnist-world has integers -10..=10"),
        (mnist(&[0, 0, 0, 256]), "`actions` has 256 at frame 1"),
        (mnist(&[3, -1, 0, 0]), "`actions` begins with (3, -1); nothing led to the first frame, so it is (0, 0)"),
    ] {
        let said = read.unwrap_err().to_string();
        assert!(said.contains(".pt: ") && said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn tensors_that_are_none_of_the_world_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let said = |tensor: Tensor, world| {
        actions(&file(dir.path(), "bad.pt", &tensors(&[tensor])), world).unwrap_err().to_string()
    };
    let ints = |shape: &[i64]| Tensor::ints("actions", shape, &vec![0; shape.iter().product::<i64>() as usize]);
    let expected = "`actions` has shape [4, 1]; expected [frames]";
    assert!(said(ints(&[4, 1]), World::Block).contains(expected));
    assert!(said(ints(&[4]), World::Mnist).contains("`actions` has shape [4]; expected [frames, 2]"));
    assert!(said(ints(&[4, 3]), World::Mnist).contains("`actions` has shape [4, 3]; expected [frames, 2]"));
    assert!(said(ints(&[0]), World::Block).contains("`actions` has shape [0]; expected [frames]"));
    let floats = Tensor::floats("actions", &[4], &[0.0; 4]);
    assert!(said(floats, World::Block).contains("`actions` holds F32; I64 is expected"));
    let mut named = ints(&[4]);
    named.name = "action";
    assert!(said(named, World::Block).contains("`actions` is missing; the file has action"));
    let mut repeated = ints(&[4]);
    (repeated.shape, repeated.strides) = (vec![1 << 60], vec![0]);
    assert!(said(repeated, World::Block).contains("frames; allowed: 2..=5461"));
    let mut longer = ints(&[4]);
    longer.shape = vec![5];
    assert!(said(longer, World::Block).contains("its storage ends after 4"));
    let mut across = ints(&[4, 2]);
    across.strides = vec![1, 4];
    assert!(said(across, World::Mnist).contains("components that lie 4 numbers apart"));
}

#[test]
fn a_file_of_actions_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let canary = dir.path().join("canary");
    let command = format!("touch {}", canary.display());
    let call = [b"cos\nsystem\n(".to_vec(), text(&command), b"tR".to_vec()].concat();
    let path = file(dir.path(), "0000_actions.pt", &saved(&dict(&[("actions", call)]), &[]));
    let said = actions(&path, World::Block).unwrap_err().to_string();
    assert!(said.contains("0000_actions.pt") && said.contains("it asks for `os.system`"), "{said}");
    // Before torch 1.6 a file was a row of pickles.
    let path = file(dir.path(), "0001_actions.pt", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.");
    assert!(actions(&path, World::Block).unwrap_err().to_string().contains("saved by torch before 1.6"));
    assert!(!canary.exists());
}

#[test]
fn a_damaged_file_of_actions_is_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    for (name, world) in [("flowm_blockworld_actions.pt", World::Block), ("flowm_mnist_world.pt", World::Mnist)] {
        let whole = fs::read(fixture(name)).unwrap();
        for at in 0..whole.len() {
            for bits in [0x01, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= bits;
                if let Err(error) = actions(&file(dir.path(), "damaged.pt", &damaged), world) {
                    assert!(error.to_string().contains("damaged.pt"), "byte {at}: {error}");
                }
            }
            assert!(actions(&file(dir.path(), "cut.pt", &whole[..at]), world).is_err());
        }
    }
}

proptest! {
    #[test]
    fn no_description_of_actions_is_a_panic(
        field in 0usize..4, axis in 0usize..2,
        value in prop_oneof![Just(0), Just(1), -3i64..70, Just(i64::MAX), Just(i64::MAX / 4), Just(1 << 32)],
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut tensor = Tensor::ints("actions", &[4, 2], &[0; 8]);
        *match field {
            0 => &mut tensor.numbers,
            1 => &mut tensor.offset,
            2 => &mut tensor.shape[axis],
            _ => &mut tensor.strides[axis],
        } = value;
        for world in [World::Block, World::Mnist] {
            let _ = actions(&file(dir.path(), "any.pt", &tensors(std::slice::from_ref(&tensor))), world);
        }
    }
}

#[test]
fn what_does_not_belong_into_a_folder_is_named() {
    if !has_ffmpeg() {
        return;
    }
    let dir = block_world();
    assert_eq!(said_of(dir.path(), None), "nothing");
    let with = |name: &str, make: &dyn Fn(&Path), expected: &[&str]| {
        let path = dir.path().join(name);
        make(&path);
        let said = said_of(dir.path(), None);
        assert!(expected.iter().all(|part| said.contains(part)), "{expected:?}: {said}");
        if path.is_dir() { fs::remove_dir_all(&path).unwrap() } else { fs::remove_file(&path).unwrap() }
    };
    let empty: &dyn Fn(&Path) = &|path| fs::write(path, "").unwrap();
    let folder: &dyn Fn(&Path) = &|path| fs::create_dir_all(path.join("deep")).unwrap();
    let pipe: &dyn Fn(&Path) = &|path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    let link: &dyn Fn(&Path) = &|path| symlink("/etc/passwd", path).unwrap();
    let above: &dyn Fn(&Path) = &|path| symlink("..", path).unwrap();
    let expected =
        "no file of block-world; expected NNNN_rgb.mp4 with NNNN_actions.pt, and perhaps NNNN_depth.pt, NNNN_depth.mp4";
    with("notes.txt", empty, &["notes.txt", expected]);
    with("0000.mp4", empty, &["0000.mp4", expected]);
    with("_rgb.mp4", empty, &["_rgb.mp4", expected]);
    with("0001_rgb.mp4", empty, &["0001_rgb.mp4: it lies there without 0001_actions.pt"]);
    with("0001_actions.pt", empty, &["0001_actions.pt: it lies there without 0001_rgb.mp4"]);
    with("0001_rgb.mp4", pipe, &["0001_rgb.mp4: neither a file nor a folder"]);
    with("0001_rgb.mp4", link, &["0001_rgb.mp4: a link; links are not followed"]);
    with("up", above, &["up: a link; links are not followed"]);
    with("train", folder, &["train/deep: a folder that lies too deep", "sunday_v2_training"]);
    with("a b_rgb.mp4", empty, &["a b_rgb.mp4: a name of other than letters"]);
    with("\u{1b}[31m_rgb.mp4", empty, &["a name of other than letters"]);
    assert_eq!(said_of(dir.path(), None), "nothing");
    // Of the other world it is nothing.
    let said = said_of(dir.path(), Some(World::Mnist));
    assert!(
        said.contains("0000_rgb.mp4: it lies there without 0000_rgb.pt; an episode of mnist-world has both"),
        "{said}"
    );
    let none = tempfile::tempdir().unwrap();
    assert!(said_of(none.path(), None).contains("expected folders with NNNN_rgb.mp4 and NNNN_actions.pt (Blockworld)"));
    assert!(said_of(&none.path().join("none"), None).contains("cannot open"));
    let twice = Flowm::open(&[dir.path().to_owned(), dir.path().join(".")], None).unwrap_err().to_string();
    assert!(twice.contains("they would be there twice"), "{twice}");
}

/// What is said of an episode of three frames of Blockworld, whose video is `bytes`.
fn said_of_video(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    block_actions(dir.path(), "0000", &[2, 0, 4]);
    fs::write(dir.path().join("0000_rgb.mp4"), bytes).unwrap();
    said_of(dir.path(), None)
}

/// The bytes of a video.
fn encoded(rgb: &[u8], side: usize, encoder: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("video.mp4");
    video(&path, rgb, side, encoder);
    fs::read(path).unwrap()
}

#[test]
fn a_video_that_does_not_fit_its_actions_is_refused() {
    if !has_ffmpeg() {
        return;
    }
    let three = pictures(128, 3);
    let frame = three.len() / 3;
    let counted = |frames: &[u8]| said_of_video(&encoded(frames, 128, &LOSSLESS));
    assert_eq!(counted(&three), "nothing");
    assert!(counted(&three[..2 * frame]).contains("0000_rgb.mp4: has 2 frames, and 3 actions beside it"));
    assert!(
        counted(&[&three[..], &three[..frame]].concat()).contains("has more than 3 frames, and 3 actions beside it")
    );
    for (side, expected) in
        [(64, "its pictures are 64x64; allowed: 128x128"), (1280, "exceeds specified max pixel count")]
    {
        let said = said_of_video(&encoded(&pictures(side, 1), side, &LOSSLESS));
        assert!(said.contains("0000_rgb.mp4") && said.contains(expected), "{said}");
    }
}

#[test]
fn a_video_that_is_none_is_refused() {
    if !has_ffmpeg() {
        return;
    }
    let rgb = pictures(128, 3);
    let encode = |more: &[&str]| encoded(&rgb, 128, &[&LOSSLESS[..], more].concat());
    let [end, front] = [encode(&[]), encode(&["-movflags", "+faststart"])];
    let lengths = [0, 1, 100, end.len() / 2, end.len() - 300].map(|length| &end[..length]);
    for cut in lengths.into_iter().chain([&front[..front.len() / 2], &front[..front.len() * 5 / 6]]) {
        let said = said_of_video(cut);
        assert!(said.contains("0000_rgb.mp4: ffmpeg refuses it (exit status: "), "{} bytes: {said}", cut.len());
    }
    let other = said_of_video(&encoded(&rgb, 128, &["-c:v", "mpeg4"]));
    assert!(other.contains("not on whitelist 'h264'"), "{other}");
    // Tables that claim two thousand million entries.
    for (table, count) in [(b"stts", 8), (b"stsz", 12), (b"stco", 8)] {
        let mut claims = end.clone();
        let at = claims.windows(4).position(|name| name == table).unwrap() + count;
        claims[at..at + 4].copy_from_slice(&0x7fff_ffffu32.to_be_bytes());
        let said = said_of_video(&claims);
        assert!(said.contains("ffmpeg refuses it") && said.contains("error reading header"), "{said}");
    }
    // Damage is not always seen, and is nothing worse.
    for at in (0..end.len()).step_by(end.len() / 40) {
        let mut damaged = end.clone();
        damaged[at] ^= 0xff;
        let said = said_of_video(&damaged);
        assert!(said == "nothing" || said.contains("0000_rgb.mp4"), "byte {at}: {said}");
    }
}

#[test]
fn a_video_cannot_name_other_files() {
    if !has_ffmpeg() {
        return;
    }
    let secret = block_world();
    let path = secret.path().join("0000_rgb.mp4");
    for list in [
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:{0}\n#EXT-X-ENDLIST\n", path.display()),
        format!("ffconcat version 1.0\nfile '{}'\n", path.display()),
        format!("<?xml version=\"1.0\"?><MPD><BaseURL>file:{}</BaseURL></MPD>", path.display()),
    ] {
        let said = said_of_video(list.as_bytes());
        assert!(said.contains("0000_rgb.mp4: ffmpeg refuses it"), "{said}");
    }
}

#[test]
fn a_world_of_other_sizes_is_refused() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    mnist_actions(dir.path(), "0000", &[0; 6]);
    video(&dir.path().join("0000.mp4"), &pictures(128, 3), 128, &LOSSLESS);
    let said = said_of(dir.path(), None);
    assert!(said.contains("0000.mp4: its pictures are 128x128; allowed: 32x32"), "{said}");
}

#[test]
fn actions_that_have_changed_since_are_refused() {
    if !has_ffmpeg() {
        return;
    }
    let dir = block_world();
    let source = Flowm::open(&[PathBuf::from(dir.path())], None).unwrap();
    block_actions(dir.path(), "0000", &[2, 0]);
    let error = RecordedEpisode::new(&source, 0).err().unwrap().to_string();
    assert!(error.contains("0000_actions.pt: `actions` is not as long as it was: 3 frames"), "{error}");
}
