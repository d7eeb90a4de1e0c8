//! How much memory a program takes.

use std::thread::JoinHandle;
use std::time::Duration;

/// How often it is looked. The kernel keeps the peak of each process, so what one takes for a moment is not missed; only
/// the last growth before its end can be.
const INTERVAL: Duration = Duration::from_millis(5);

/// Watches a process and those that it starts, until its end. Gives the highest sum of the peaks (`VmHWM`) of those that
/// ran at one time, in bytes.
pub fn watch(process: u32) -> JoinHandle<u64> {
    std::thread::spawn(move || {
        let mut highest = 0;
        // Nothing that has ended has memory, also before it is waited for.
        while let Some(peak) = peak(process) {
            highest = highest.max(peak + of_children(process));
            std::thread::sleep(INTERVAL);
        }
        highest
    })
}

fn of_children(process: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<u32> = lists
        .flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|child| child.parse().ok())
        .collect();
    children.into_iter().map(|child| peak(child).unwrap_or(0) + of_children(child)).sum()
}

fn peak(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
