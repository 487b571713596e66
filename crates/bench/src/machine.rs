//! The machine that figures belong to.

use std::fs;

/// Cores, memory, kernel and load, on one line.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory_gib = field("/proc/meminfo", "MemTotal:").unwrap_or(0.0) / f64::from(1 << 20);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("{cores} cores, {memory_gib:.0} GiB, Linux {}, load {load}", kernel.trim())
}

/// Resident memory of a process in bytes.
pub fn resident_bytes(pid: u32) -> Option<f64> {
    field(&format!("/proc/{pid}/status"), "VmRSS:").map(|kib| kib * 1024.0)
}

/// The number behind a name in one of the kernel's text files.
fn field(path: &str, name: &str) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_the_machine_has_cores() {
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000.0);
        assert!(!describe().starts_with('0'));
    }
}
