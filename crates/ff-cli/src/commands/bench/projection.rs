//! What networks would make of a step that ranks share: arithmetic on what was measured and what is stated.
//!
//! A step takes what a rank computes, and what of the gradient's sum nothing hides. A ring moves `2 (n - 1) / n` of the
//! gradient over each of its links: within a machine first, if it has several GPUs, then between machines. What the
//! backward pass hides is bounded by its time, less the last part of the gradient.

use ff_train::ranks::ReduceDtype;
use serde::Serialize;

use crate::output;

/// Networks, with the gigabytes a second that a sum gets out of them: under 1, 10, 25, 100 and 400 Gbit/s by what
/// protocols and copies cost.
const LINKS: [(&str, f64); 5] =
    [("1 GbE", 0.118), ("10 GbE", 1.1), ("25 GbE", 2.8), ("100 GbE", 11.0), ("400 Gbit/s", 44.0)];
/// Machines with a rank each.
const MACHINES: [usize; 5] = [2, 4, 8, 32, 128];
/// GPUs, a rank each, [`GPUS_A_MACHINE`] to a machine.
const GPUS: [usize; 8] = [8, 16, 32, 64, 128, 256, 512, 1024];
const GPUS_A_MACHINE: usize = 8;
/// What a ring of eight H100 gets out of NVLink, GB/s.
const NVLINK: f64 = 370.0;
/// Of the backward pass: the part of its time beside which a sum can run. The last layers have most of the parameters,
/// and come first.
const HIDES: f64 = 0.8;
/// Of a GPU's step, that is backward: it computes two convolutions for forward's one.
const GPU_BACKWARD: f64 = 2.0 / 3.0;
/// Of a message to the next machine, microseconds.
const LATENCY_US: f64 = 5.0;

/// What a rank does in a step, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Compute {
    pub compute_ms: f64,
    /// Of it, backward.
    pub backward_ms: f64,
}

/// Two projections, with what they are made of.
#[derive(Debug, Serialize)]
pub struct Projection {
    inputs: Inputs,
    /// This program, a rank a machine, with the compute that was measured.
    machines: Vec<Row>,
    /// GPUs, with the compute that was stated.
    gpus: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Inputs {
    gradient_mb: f64,
    /// As measured.
    machine: Compute,
    /// Stated: no GPU was measured by this.
    gpu: Compute,
    gpus_a_machine: usize,
    nvlink_gb_per_s: f64,
    latency_us: f64,
    /// The share of backward beside which a sum runs.
    hides: f64,
}

#[derive(Debug, Serialize)]
struct Row {
    link: &'static str,
    gb_per_s: f64,
    ranks: usize,
    reduce_dtype: ReduceDtype,
    sum_ms: f64,
    /// What a step waits for.
    shown_ms: f64,
    /// Of as many single ranks' images a second, where the sum is hidden behind the backward pass.
    efficiency: f64,
    /// The same where it is not.
    efficiency_without_overlap: f64,
}

/// A ring over machines of so many ranks each.
struct Ring {
    ranks: usize,
    a_machine: usize,
    link: (&'static str, f64),
}

impl Projection {
    /// From what one rank was measured to compute, what is stated of a GPU, and the gradient's size in f32.
    pub fn new(machine: Compute, gpu_ms: f64, gradient_mb: f64) -> Self {
        let gpu = Compute { compute_ms: gpu_ms, backward_ms: GPU_BACKWARD * gpu_ms };
        let rows = |sizes: &[usize], a_machine, compute: Compute| -> Vec<Row> {
            let of_link = |link| {
                ReduceDtype::ALL.into_iter().flat_map(move |dtype| {
                    let rings = sizes.iter().map(move |&ranks| Ring { ranks, a_machine, link });
                    rings.map(move |ring| ring.row(compute, gradient_mb, dtype))
                })
            };
            LINKS.into_iter().flat_map(of_link).collect()
        };
        Self {
            inputs: Inputs {
                gradient_mb,
                machine,
                gpu,
                gpus_a_machine: GPUS_A_MACHINE,
                nvlink_gb_per_s: NVLINK,
                latency_us: LATENCY_US,
                hides: HIDES,
            },
            machines: rows(&MACHINES, 1, machine),
            gpus: rows(&GPUS, GPUS_A_MACHINE, gpu),
        }
    }

    pub fn print(&self) {
        let Inputs { machine, gpu, .. } = &self.inputs;
        output::say!(
            "projected share of as many single ranks, {:.0} ms a step measured:",
            machine.compute_ms
        );
        table(&self.machines, "machines", MACHINES.len());
        output::say!("the same of GPUs, {GPUS_A_MACHINE} a machine, {:.1} ms a step stated:", gpu.compute_ms);
        table(&self.gpus, "GPUs", GPUS.len());
    }
}

fn table(rows: &[Row], of: &str, columns: usize) {
    let header: Vec<String> = rows[..columns].iter().map(|row| format!("{} {of}", row.ranks)).collect();
    let header: Vec<&str> = ["link", "as"].into_iter().chain(header.iter().map(String::as_str)).collect();
    let line = |rows: &[Row]| {
        let names = [rows[0].link.to_owned(), rows[0].reduce_dtype.name().to_owned()];
        names.into_iter().chain(rows.iter().map(|row| output::percent(row.efficiency))).collect::<Vec<_>>()
    };
    output::say!("{}", output::table(&header, &rows.chunks(columns).map(line).collect::<Vec<_>>()));
}

impl Ring {
    fn row(&self, compute: Compute, gradient_mb: f64, reduce_dtype: ReduceDtype) -> Row {
        let Self { ranks, a_machine, link: (link, gb_per_s) } = *self;
        let megabytes = gradient_mb * reduce_dtype.size() as f64 / ReduceDtype::F32.size() as f64;
        // Megabytes over gigabytes a second are milliseconds.
        let ring = |n: usize, gb_per_s: f64| 2.0 * (n - 1) as f64 / n as f64 * megabytes / gb_per_s;
        let machines = ranks / a_machine;
        let latency_ms = 2e-3 * LATENCY_US * (machines - 1) as f64;
        let sum_ms = ring(a_machine, NVLINK) + ring(machines, gb_per_s) + latency_ms;
        let shown_ms = (sum_ms - HIDES * compute.backward_ms).max(0.0);
        let efficiency = |shown: f64| compute.compute_ms / (compute.compute_ms + shown);
        Row {
            link,
            gb_per_s,
            ranks,
            reduce_dtype,
            sum_ms,
            shown_ms,
            efficiency: efficiency(shown_ms),
            efficiency_without_overlap: efficiency(sum_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures that the design was made by, for 86.2 MB and 20 ms a step.
    #[test]
    fn sixteen_gpus_over_ethernet_as_reckoned_by_hand() {
        let projection = Projection::new(Compute { compute_ms: 1000.0, backward_ms: 600.0 }, 20.0, 86.2);
        let of = |link: &str, ranks: usize, dtype: ReduceDtype| {
            let row = projection
                .gpus
                .iter()
                .find(|row| (row.link, row.ranks, row.reduce_dtype) == (link, ranks, dtype));
            let row = row.unwrap();
            [row.efficiency_without_overlap, row.efficiency].map(|share| (100.0 * share).round())
        };
        assert_eq!(of("100 GbE", 8, ReduceDtype::F32), [98.0, 100.0]);
        assert_eq!(of("100 GbE", 16, ReduceDtype::F32), [71.0, 100.0]);
        assert_eq!(of("25 GbE", 16, ReduceDtype::F32), [39.0, 49.0]);
        assert_eq!(of("25 GbE", 16, ReduceDtype::Bf16), [56.0, 80.0]);
    }

    /// A ring's bytes: twice the gradient, less a machine's own part, over the link.
    #[test]
    fn more_machines_and_slower_links_cost_more() {
        let all = Projection::new(Compute { compute_ms: 1000.0, backward_ms: 600.0 }, 20.0, 110.0).machines;
        assert_eq!(all.len(), LINKS.len() * MACHINES.len() * 2);
        let two = all.iter().find(|row| row.link == "10 GbE" && row.ranks == 2).unwrap();
        assert!((two.sum_ms - 100.01).abs() < 1e-9 && two.shown_ms == 0.0, "{two:?}");
        let more = all.windows(2).filter(|pair| pair[0].ranks < pair[1].ranks);
        assert!(more.into_iter().all(|pair| pair[1].sum_ms > pair[0].sum_ms));
        let alike = |a: &Row, b: &Row| (a.ranks, a.reduce_dtype) == (b.ranks, b.reduce_dtype);
        for a in &all {
            let slower = all.iter().filter(|b| alike(a, b) && b.gb_per_s < a.gb_per_s);
            assert!(slower.into_iter().all(|b| b.sum_ms > a.sum_ms), "{a:?}");
        }
    }
}
