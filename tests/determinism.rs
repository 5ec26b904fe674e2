//! The program records the same bytes wherever, whenever and for whomever it runs.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they stand")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

/// How much to try: a little on every change, all of it before a release.
fn scaled<T>(small: T, full: T) -> T {
    if std::env::var_os("MINDSEYE_TEST_SCALE").is_some_and(|scale| scale == "full") { full } else { small }
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn mindseye() -> Command {
    Command::new(cargo_bin("mindseye"))
}

/// Names of all environments on the command line.
fn envs() -> Vec<String> {
    let lines = succeeded(mindseye().args(["envs", "--json"]).output().unwrap());
    let alias = |line: &str| serde_json::from_str::<Value>(line).unwrap()["alias"].as_str().unwrap().to_owned();
    lines.lines().map(alias).collect()
}

/// What a recording left: the digest that the program says, and every file but the lock.
#[derive(PartialEq)]
struct Recorded {
    digest: String,
    files: BTreeMap<String, Vec<u8>>,
}

/// Lets `command` record into `out`, relative to the folder `from`.
fn record(command: &mut Command, env: &str, from: &Path, out: &str) -> Recorded {
    let episodes = scaled("20", "200");
    let arguments = ["collect", env, "--episodes", episodes, "--episodes-per-shard", "9", "--json", "--out", out];
    let said = succeeded(command.args(arguments).current_dir(from).output().unwrap());
    let digest = serde_json::from_str::<Value>(&said).unwrap()["digest"].as_str().unwrap().to_owned();
    let mut files = BTreeMap::new();
    for folder in ["", "shards"] {
        for item in fs::read_dir(from.join(out).join(folder)).unwrap() {
            let item = item.unwrap();
            let name = Path::new(folder).join(item.file_name()).display().to_string();
            if item.path().is_file() && name != ".lock" {
                files.insert(name, fs::read(item.path()).unwrap());
            }
        }
    }
    Recorded { digest, files }
}

#[track_caller]
fn assert_same(found: &Recorded, expected: &Recorded, what: &str) {
    assert_eq!(found.digest, expected.digest, "{what}");
    assert!(found == expected, "{what}: files differ");
}

#[test]
fn the_same_command_records_the_same_bytes() {
    let place = tempfile::tempdir().unwrap();
    for env in envs() {
        let first = record(&mut mindseye(), &env, place.path(), &format!("{env}-0"));
        for repetition in 1..scaled(5, 20) {
            let again = record(&mut mindseye(), &env, place.path(), &format!("{env}-{repetition}"));
            assert_same(&again, &first, &format!("{env}, repetition {repetition}"));
        }
    }
}

#[test]
fn language_zone_folder_and_rights_change_nothing() {
    let place = tempfile::tempdir().unwrap();
    let with = |variables: &[(&str, &str)]| {
        let mut command = mindseye();
        command.envs(variables.iter().copied());
        command
    };
    let private = || {
        let mut command = Command::new("sh");
        command.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(cargo_bin("mindseye"));
        command
    };
    let bare = || {
        let mut command = mindseye();
        command.env_clear();
        command
    };
    fs::create_dir_all(place.path().join("another/folder")).unwrap();
    let here = ".";
    let settings: [(&str, &str, &dyn Fn() -> Command); 6] = [
        ("a decimal comma, half an hour off", here, &|| with(&[("LC_ALL", "de_DE.UTF-8"), ("TZ", "America/St_Johns")])),
        ("a capital i with a dot, far east", here, &|| {
            with(&[("LC_ALL", "tr_TR.UTF-8"), ("TZ", "Pacific/Kiritimati")])
        }),
        ("random hash seeds", here, &|| with(&[("PYTHONHASHSEED", "random"), ("PERL_HASH_SEED", "1")])),
        ("another folder", "another/folder", &mindseye),
        ("files for nobody else", here, &private),
        ("no environment, so no language and no home", here, &bare),
    ];
    for env in envs() {
        let expected = record(&mut mindseye(), &env, place.path(), &format!("{env}-plain"));
        for (i, (what, folder, command)) in settings.iter().enumerate() {
            let found = record(&mut command(), &env, &place.path().join(folder), &format!("{env}-{i}"));
            assert_same(&found, &expected, &format!("{env}, {what}"));
        }
    }
}

/// A library that, loaded before all others, sets the clock of a program to `CLOCK_SECONDS` after 1970.
#[cfg(target_os = "linux")]
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static time_t set_to(void) { return atoll(getenv("CLOCK_SECONDS")); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec = set_to();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    now->tv_sec = set_to();
    now->tv_usec = 0;
    return 0;
}

time_t time(time_t *now) {
    if (now) *now = set_to();
    return set_to();
}
"#;

#[cfg(target_os = "linux")]
#[test]
fn the_clock_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let [source, library] = ["clock.c", "clock.so"].map(|name| place.path().join(name));
    fs::write(&source, CLOCK).unwrap();
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let arguments = ["-x", "c", "-shared", "-fPIC", "-o"];
    succeeded(Command::new(compiler).args(arguments).args([&library, &source]).arg("-ldl").output().unwrap());
    let envs = envs();
    let now = |env: &String| record(&mut mindseye(), env, place.path(), &format!("{env}-now"));
    let expected: Vec<_> = envs.iter().map(now).collect();
    // Midnight of 1 January.
    for (seconds, year) in [("0", "1970"), ("4070908800", "2099")] {
        let at = |mut command: Command| {
            command.env("LD_PRELOAD", &library).env("CLOCK_SECONDS", seconds);
            command
        };
        let said = succeeded(at(Command::new("date")).args(["-u", "+%Y"]).output().unwrap());
        assert_eq!(said.trim(), year, "the clock is set");
        for (env, expected) in envs.iter().zip(&expected) {
            let found = record(&mut at(mindseye()), env, place.path(), &format!("{env}-{year}"));
            assert_same(&found, expected, &format!("{env} in {year}"));
        }
    }
}
