//! What the kernel says of processes: CPU time and memory, from `/proc`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::platform::{DataFolder, Processes};
use crate::units::float;

/// CPU time and memory of a platform's processes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU seconds since their start, all of a role together (`node`, `gateway`, `custodian`, ...).
    pub cpu_s: BTreeMap<String, f64>,
    /// Proportional set size of all together, bytes.
    pub pss_bytes: u64,
    /// Largest resident size that the gateway has had, bytes.
    pub gateway_peak_bytes: u64,
}

impl Usage {
    /// CPU seconds of each role since `before`.
    pub fn cpu_since(&self, before: &Self) -> BTreeMap<String, f64> {
        let spent = |(role, now): (&String, &f64)| {
            let then = before.cpu_s.get(role).copied().unwrap_or_default();
            (role.clone(), (now - then).max(0.0))
        };
        self.cpu_s.iter().map(spent).collect()
    }
}

/// Memory of a platform's processes, proportional set sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    /// The gateway.
    pub gateway_bytes: u64,
    /// The largest of the nodes.
    pub largest_node_bytes: u64,
    /// All together, the supervisor included.
    pub all_bytes: u64,
}

/// The processes of the platform that runs from a folder; `None` when none does.
pub fn platform(folder: &DataFolder) -> Option<Vec<(String, u32)>> {
    let processes = Processes::read(folder).ok()?;
    let mut found = vec![("supervisor".to_owned(), processes.supervisor)];
    found.extend(
        processes
            .children
            .into_iter()
            .filter_map(|child| Some((child.name, child.pid?))),
    );
    Some(found)
}

/// What the processes hold now. A process that ended meanwhile counts as nothing.
pub fn memory(processes: &[(String, u32)]) -> Memory {
    let mut memory = Memory::default();
    for (name, pid) in processes {
        let bytes = pss(*pid);
        memory.all_bytes += bytes;
        if name == "gateway" {
            memory.gateway_bytes = bytes;
        } else if name.starts_with("node-") {
            memory.largest_node_bytes = memory.largest_node_bytes.max(bytes);
        }
    }
    memory
}

fn pss(pid: u32) -> u64 {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:").unwrap_or(0)
}

/// Sums up. A process that ended meanwhile counts as nothing.
pub fn usage(processes: &[(String, u32)]) -> Usage {
    let mut usage = Usage::default();
    for (name, pid) in processes {
        let role = name.split('-').next().unwrap_or(name).to_owned();
        *usage.cpu_s.entry(role).or_default() += cpu(*pid).unwrap_or_default().as_secs_f64();
        usage.pss_bytes += pss(*pid);
        if name == "gateway" {
            usage.gateway_peak_bytes = field(&format!("/proc/{pid}/status"), "VmHWM:").unwrap_or(0);
        }
    }
    usage
}

/// Forgets the largest sizes so far, where the kernel lets us.
pub fn reset_peaks(processes: &[(String, u32)]) {
    for (_, pid) in processes {
        let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

/// CPU time of a process, all its threads.
pub fn cpu(pid: u32) -> Option<Duration> {
    parse_cpu(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_cpu(stat: &str) -> Option<Duration> {
    // The name in parentheses may hold anything; the fields after its last parenthesis are numbers (proc(5)).
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let per_s = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(
        float(user + system) / float(per_s.max(1)),
    ))
}

/// A `Name: 123 kB` line, in bytes.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let ticks = rustix::param::clock_ticks_per_second();
        let stat = format!("42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 {ticks} {ticks} 0 0");
        assert_eq!(parse_cpu(&stat), Some(Duration::from_secs(2)));
        assert_eq!(parse_cpu("42 (a"), None);
    }

    #[test]
    fn this_process_has_memory() {
        let here = [("gateway".to_owned(), std::process::id())];
        let usage = usage(&here);
        assert!(
            usage.pss_bytes > 100_000 && usage.gateway_peak_bytes > 100_000,
            "{usage:?}"
        );
        let mut later = usage.clone();
        later.cpu_s.insert("gateway".to_owned(), 1e6);
        later.cpu_s.insert("node".to_owned(), 2.0);
        let spent = later.cpu_since(&usage);
        assert!(
            spent["gateway"] > 9e5 && (spent["node"] - 2.0).abs() < 1e-9,
            "{spent:?}"
        );
    }
}
