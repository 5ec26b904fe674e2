//! Odd places: folders that are files, links, read-only, gone, or of strange names. All work, or fail and touch nothing.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::disk::Small;
use crate::program::{Place, Running, Work, copy, data, mindseye, ok, result, run};

/// A short dataset and a short run on `data`.
fn works(data: &str) -> [Work; 2] {
    [Work::collect("mnist-world", 4), Work::train("linear_rnn", data, 7)]
}

fn listing(folder: &Path) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|item| item.unwrap().file_name()).collect();
    names.sort();
    names
}

#[test]
fn names_of_any_kind_work() {
    let place = Place::new();
    let data = data(&place);
    let longest = "n".repeat(255);
    let names: [&[u8]; 6] =
        [b"with space", "världen 世界".as_bytes(), b"new\nline", longest.as_bytes(), b"--help", b"not \xff UTF-8"];
    for work in works(&data) {
        let whole = work.whole(&place.at("whole"));
        for name in names.map(OsStr::from_bytes) {
            let out = place.path().join(name);
            for _ in 0..2 {
                let ended = run(&mut work.go_on(&out));
                assert_eq!(ended.code, Some(0), "{name:?}: {ended:?}");
            }
            let plain = place.path().join("renamed");
            fs::rename(&out, &plain).unwrap();
            assert!(result(plain.to_str().unwrap()) == whole, "{name:?}");
            fs::remove_dir_all(&plain).unwrap();
        }
        let out = place.at(&"n".repeat(256));
        let ended = run(&mut work.begin(&out));
        assert!(ended.code == Some(74) && ended.err.contains("name too long"), "{ended:?}");
        assert_eq!(listing(place.path()), ["data", "whole"], "nothing else was touched");
        fs::remove_dir_all(place.at("whole")).unwrap();
    }
}

#[test]
fn a_link_is_followed_and_one_that_dangles_is_an_error() {
    let place = Place::new();
    let data = data(&place);
    for (number, work) in works(&data).iter().enumerate() {
        let whole = work.whole(&place.at(&format!("whole {number}")));
        let (target, link) = (place.at(&format!("target {number}")), place.at(&format!("link {number}")));
        fs::create_dir(&target).unwrap();
        symlink(&target, &link).unwrap();
        work.ends_as(&link, &whole, "through a link");
        assert!(Path::new(&link).is_symlink() && result(&target) == whole);
        let (nowhere, dangling) = (place.at("nowhere"), place.at(&format!("dangling {number}")));
        symlink(&nowhere, &dangling).unwrap();
        let ended = run(&mut work.begin(&dangling));
        assert!(ended.code == Some(74) && ended.err.contains(&dangling), "{ended:?}");
        assert!(!Path::new(&nowhere).exists());
    }
}

#[test]
fn a_file_is_no_folder() {
    let place = Place::new();
    let (data, file) = (data(&place), place.at("file"));
    fs::write(&file, "mine").unwrap();
    for work in works(&data) {
        let ended = run(&mut work.begin(&file));
        assert!(ended.code == Some(2) && ended.err.contains("it is a file") && ended.err.contains(&file), "{ended:?}");
        assert_eq!(fs::read(&file).unwrap(), b"mine");
    }
}

#[test]
fn a_folder_that_may_not_be_written_is_an_error_and_may_be_read() {
    let place = Place::new();
    let data = data(&place);
    let Some(small) = Small::mount(&place, 4_000) else { return };
    let stored = copy(Path::new(&data), &Path::new(&small.0).join("data"));
    let stored = stored.to_str().unwrap();
    small.make_read_only();
    for work in works(&data) {
        let out = format!("{}/out", small.0);
        let ended = run(&mut work.begin(&out));
        assert!(ended.code == Some(74) && ended.err.contains(&out), "{ended:?}");
    }
    let extended = run(&mut Work::collect("mnist-world", 20).begin(stored));
    assert!(extended.code == Some(74) && extended.err.contains(stored), "{extended:?}");
    ok(&["data", "verify", stored]);
    Work::train("linear_rnn", stored, 7).whole(&place.at("run"));
}

#[test]
fn a_folder_that_is_taken_away_is_not_made_again() {
    let place = Place::new();
    let data = data(&place);
    let works = [(Work::collect("mnist-world", 30), "sync~shards:3"), (Work::train("linear_rnn", &data, 30), "link:2")];
    for (number, (work, operation)) in works.into_iter().enumerate() {
        let (out, away) = (place.at(&format!("out {number}")), place.at(&format!("away {number}")));
        let running = Running::paused(&mut work.begin(&out), operation);
        fs::rename(&out, &away).unwrap();
        running.goes_on();
        let ended = running.ended();
        assert!(ended.code == Some(74) && ended.err.contains(&out), "{ended:?}");
        assert!(!Path::new(&out).exists(), "nothing was made in its place");
        if number == 0 {
            ok(&["data", "verify", &away]);
        }
    }
}

#[test]
fn a_link_to_the_last_checkpoint_that_dangles_is_mended() {
    let place = Place::new();
    let work = Work::train("linear_rnn", &data(&place), 7);
    let (out, whole) = (place.at("run"), work.whole(&place.at("whole")));
    work.whole(&out);
    let last = Path::new(&out).join("checkpoints/last");
    fs::remove_file(&last).unwrap();
    symlink("000099", &last).unwrap();
    fs::create_dir(Path::new(&out).join("checkpoints/.000099.tmp")).unwrap();
    let ended = run(&mut mindseye(&["eval", "memory", &out, "--data", &place.at("data"), "--clips", "2"]));
    assert_eq!(ended.code, Some(0), "nobody who reads needs it: {ended:?}");
    fs::remove_dir_all(Path::new(&out).join("memory")).unwrap();
    work.ends_as(&out, &whole, "a dangling link");
}
