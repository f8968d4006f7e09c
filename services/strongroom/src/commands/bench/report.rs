//! What `bench` measured, and how it is shown.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::output::table;
use crate::proc;
use crate::units::{self, float};

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) load: &'static str,
    pub(super) operation: &'static str,
    pub(super) in_flight: u16,
    pub(super) objects: u64,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) objects_per_s: f64,
    pub(super) mb_per_s: f64,
    pub(super) first_byte_p50_ms: Option<f64>,
    pub(super) first_byte_p99_ms: Option<f64>,
    pub(super) total_p50_ms: f64,
    pub(super) total_p99_ms: f64,
    /// CPU seconds of every role while it ran; `client` is this process. Only that one when no platform was named.
    pub(super) cpu_s: BTreeMap<String, f64>,
    pub(super) gateway_peak_bytes: Option<u64>,
    pub(super) platform_pss_bytes: Option<u64>,
    pub(super) failed: u64,
}

impl Measured {
    /// CPU seconds of all processes of the platform; `None` when they were not measured.
    fn platform_cpu_s(&self) -> Option<f64> {
        (self.cpu_s.len() > 1).then(|| self.cpu_s.values().sum::<f64>() - self.client_cpu_s())
    }

    fn client_cpu_s(&self) -> f64 {
        self.cpu_s.get("client").copied().unwrap_or_default()
    }

    /// `custodian 1.20, gateway 0.60`: milliseconds for each operation, most first.
    fn cpu_by_role(&self) -> String {
        let mut roles: Vec<_> = self
            .cpu_s
            .iter()
            .map(|(role, seconds)| (seconds * 1e3 / float(self.objects.max(1)), role))
            .filter(|(ms, _)| *ms >= 0.005)
            .collect();
        roles.sort_by(|one, other| other.0.total_cmp(&one.0));
        let words: Vec<_> = roles
            .iter()
            .map(|(ms, role)| format!("{role} {ms:.2}"))
            .collect();
        words.join(", ")
    }
}

pub(super) fn render(idle: Option<&proc::Memory>, measured: &[Measured]) -> String {
    let none = || "-".to_owned();
    let before = idle.map_or_else(String::new, |idle| {
        format!(
            "before the loads: gateway {}, largest node {}, all processes {} (PSS)\n",
            units::size(idle.gateway_bytes),
            units::size(idle.largest_node_bytes),
            units::size(idle.all_bytes)
        )
    });
    let ms = |value: f64| format!("{value:.1}");
    let per_gb = |m: &Measured, cpu_s: Option<f64>| {
        cpu_s
            .filter(|_| m.bytes > 0)
            .map_or_else(none, |cpu_s| format!("{:.2}", cpu_s * 1e9 / float(m.bytes)))
    };
    let mut rows = vec![
        [
            "load",
            "operation",
            "in flight",
            "objects/s",
            "MB/s",
            "first byte p50",
            "p99",
            "total p50",
            "p99",
            "CPU s/GB",
            "client",
            "gateway peak",
            "all PSS",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(measured.iter().map(|m| {
        vec![
            m.load.to_owned(),
            m.operation.to_owned(),
            m.in_flight.to_string(),
            format!("{:.0}", m.objects_per_s),
            format!("{:.1}", m.mb_per_s),
            m.first_byte_p50_ms.map_or_else(none, ms),
            m.first_byte_p99_ms.map_or_else(none, ms),
            ms(m.total_p50_ms),
            ms(m.total_p99_ms),
            per_gb(m, m.platform_cpu_s()),
            per_gb(m, Some(m.client_cpu_s())),
            m.gateway_peak_bytes.map_or_else(none, units::size),
            m.platform_pss_bytes.map_or_else(none, units::size),
        ]
    }));
    let each: Vec<_> = measured
        .iter()
        .filter(|m| m.bytes == 0 && !m.cpu_s.is_empty())
        .map(|m| {
            format!(
                "\nCPU ms for each {} {}: {}",
                m.load,
                m.operation,
                m.cpu_by_role()
            )
        })
        .collect();
    format!(
        "{before}{}\n(times in ms; CPU of all platform processes per GB of plaintext, and of this client beside it){}",
        table(&rows, &[2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        each.concat()
    )
}

/// The value that so many percent of the samples do not exceed, in milliseconds (nearest rank).
pub(super) fn percentile(samples: &mut [Duration], percent: usize) -> Option<f64> {
    samples.sort_unstable();
    let rank = (samples.len() * percent).div_ceil(100).max(1);
    samples
        .get(rank - 1)
        .map(|sample| sample.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut samples: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut samples, 50), Some(50.0));
        assert_eq!(percentile(&mut samples, 99), Some(99.0));
        assert_eq!(percentile(&mut [Duration::from_millis(7)], 99), Some(7.0));
        assert_eq!(percentile(&mut [], 50), None);
    }
}
