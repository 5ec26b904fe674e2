//! The memory of this machine, and how much of it a command may still take.

use std::fs;
use std::path::Path;

/// Bytes of main memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What can be had without swapping.
    pub free: u64,
    /// All there is.
    pub total: u64,
}

/// What the kernel says, or the job's limit where that is tighter; nothing where the system does not tell.
pub fn memory() -> Option<Memory> {
    let machine = of_machine(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let limits = Path::new(path).ancestors().filter_map(|group| of_group(&Path::new("/sys/fs/cgroup").join(group)));
    Some(
        limits.fold(machine, |least, limit| Memory {
            free: least.free.min(limit.free),
            total: least.total.min(limit.total),
        }),
    )
}

/// Of /proc/meminfo.
fn of_machine(text: &str) -> Option<Memory> {
    let bytes = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    Some(Memory { free: bytes("MemAvailable")?, total: bytes("MemTotal")? })
}

/// The limit of a control group, if it has one; schedulers and containers set it for a job.
fn of_group(folder: &Path) -> Option<Memory> {
    let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    let (total, used) = (number("memory.max")?, number("memory.current")?);
    // Cached pages of files count as used, but are given back when they are wanted.
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cached = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse().ok()).unwrap_or(0);
    Some(Memory { free: total.saturating_sub(used.saturating_sub(cached)), total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_and_the_group_are_read() {
        let text = "MemTotal:       16000 kB\nMemFree:          100 kB\nMemAvailable:    2000 kB\n";
        assert_eq!(of_machine(text), Some(Memory { free: 2000 * 1024, total: 16000 * 1024 }));
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(of_group(folder.path()), None);
        for (file, text) in
            [("memory.max", "1000\n"), ("memory.current", "700\n"), ("memory.stat", "anon 1\ninactive_file 50\n")]
        {
            fs::write(folder.path().join(file), text).unwrap();
        }
        assert_eq!(of_group(folder.path()), Some(Memory { free: 350, total: 1000 }));
        fs::write(folder.path().join("memory.max"), "max\n").unwrap();
        assert_eq!(of_group(folder.path()), None);
        assert!(memory().is_some_and(|memory| 0 < memory.free && memory.free <= memory.total));
    }
}
