//! What a launcher says of a process that it has started: its place among how many.
//!
//! Launchers say so in environment variables, each in its own. Nothing here starts or connects anything. A process that
//! trains alone where a launcher has started several would do the same work as each of the others, over the same files.

use std::fmt;

use crate::{Error, Result};

/// A process's place, as a launcher says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Who says so.
    pub launcher: &'static str,
    /// Which process it is, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// Which of those on its machine it is, from 0, if its launcher says so.
    pub local_rank: Option<usize>,
}

/// A launcher with its variables.
struct Launcher {
    name: &'static str,
    rank: &'static str,
    size: &'static str,
    local_rank: &'static str,
}

const fn launcher(name: &'static str, [rank, size, local_rank]: [&'static str; 3]) -> Launcher {
    Launcher { name, rank, size, local_rank }
}

/// Those that start the very process that reads this.
const LAUNCHERS: [Launcher; 3] = [
    launcher(
        "Open MPI's mpirun",
        ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"],
    ),
    // MPICH, Intel MPI, and what else speaks PMI; srun too where it is asked to.
    launcher("mpiexec", ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"]),
    launcher(TORCHRUN, ["RANK", "WORLD_SIZE", "LOCAL_RANK"]),
];
/// One that may have started another launcher, which then knows better. Beside a batch script's own variables srun sets
/// those of its step.
const SRUN: Launcher = launcher("srun", ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"]);
const TORCHRUN: &str = "torchrun";

/// Where the first process listens for the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeetingPoint {
    /// Its machine.
    pub host: String,
    /// The port there.
    pub port: u16,
}

impl MeetingPoint {
    /// Where the processes of this launcher meet: at MASTER_ADDR and MASTER_PORT, as PyTorch's users know them.
    /// torchrun listens there itself, so that is the port after it. srun needs neither: the first machine of the step,
    /// and a port by the job's number.
    ///
    /// # Errors
    /// [`Error::Launcher`]: there is no such place, or the port is none.
    pub fn of(place: &Place) -> Result<Self> {
        Self::find(place, |name| std::env::var(name).ok())
    }

    fn find(place: &Place, variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let by_srun = place.launcher == SRUN.name;
        let host = variable("MASTER_ADDR").or_else(|| {
            let machines = variable("SLURM_STEP_NODELIST").filter(|_| by_srun)?;
            Some(first_machine(&machines))
        });
        let by_job = || {
            let job: u64 = variable("SLURM_JOB_ID").filter(|_| by_srun)?.parse().ok()?;
            // Below the ports that systems give away.
            Some((20_000 + job % 10_000).to_string())
        };
        let port = variable("MASTER_PORT").or_else(by_job);
        let (Some(host), Some(port)) = (&host, &port) else {
            let found =
                |name, value: &Option<String>| format!("{name}={}", value.as_deref().unwrap_or("none"));
            let message = format!(
                "{place}: expected the machine of the first process and a port there in MASTER_ADDR and MASTER_PORT, \
                 found {} and {}",
                found("MASTER_ADDR", &host),
                found("MASTER_PORT", &port)
            );
            return Err(Error::Launcher { message });
        };
        let after = u16::from(place.launcher == TORCHRUN);
        match port.parse::<u16>().ok().and_then(|port| port.checked_add(after)).filter(|&port| port > 0) {
            Some(port) => Ok(Self { host: host.clone(), port }),
            None => {
                let message = format!("expected a port, with one after it, found MASTER_PORT={port}");
                Err(Error::Launcher { message })
            }
        }
    }
}

impl fmt::Display for MeetingPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// `gpu07` of SLURM's `gpu[07-09,12],login1`.
fn first_machine(machines: &str) -> String {
    let name: &str = machines.split([',', '[']).next().unwrap_or_default();
    let numbers = machines[name.len()..].strip_prefix('[').unwrap_or_default();
    let number = numbers.split(['-', ',', ']']).next().unwrap_or_default();
    let end = numbers.split_once(']').map_or("", |(_, end)| end);
    let end = end.split([',', '[']).next().unwrap_or_default();
    if numbers.is_empty() { name.to_owned() } else { format!("{name}{number}{end}") }
}

/// This process's place, if a launcher has started it.
///
/// # Errors
/// [`Error::Launcher`]: variables that are no place, or launchers that say different things.
pub fn place() -> Result<Option<Place>> {
    place_in(|name| std::env::var(name).ok())
}

fn place_in(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Place>> {
    let mut found: Option<Place> = None;
    for launcher in &LAUNCHERS {
        let Some(place) = launcher.place(&variable)? else { continue };
        match &found {
            None => found = Some(place),
            Some(other) if (other.rank, other.size) == (place.rank, place.size) => {}
            Some(other) => {
                let message =
                    format!("expected one launcher, or two that agree, found that {other}, and that {place}");
                return Err(Error::Launcher { message });
            }
        }
    }
    if found.is_none() { SRUN.place(&variable) } else { Ok(found) }
}

impl Launcher {
    fn place(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Place>> {
        let Self { name, rank, size, local_rank } = *self;
        let (Some(rank_text), Some(size_text)) = (variable(rank), variable(size)) else { return Ok(None) };
        match (rank_text.parse(), size_text.parse()) {
            (Ok(rank), Ok(size)) if rank < size => {
                let local_rank = variable(local_rank).and_then(|text| text.parse().ok());
                Ok(Some(Place { launcher: name, rank, size, local_rank }))
            }
            _ => {
                let found = format!("{rank}={rank_text} and {size}={size_text}");
                let message = format!("expected a process's number below that of all of them, found {found}");
                Err(Error::Launcher { message })
            }
        }
    }
}

impl Place {
    /// Refuses to train alone where a launcher has started several.
    ///
    /// # Errors
    /// [`Error::Launcher`].
    pub fn check_alone(&self) -> Result<()> {
        if self.size == 1 {
            return Ok(());
        }
        let message = format!(
            "{self}, and this program trains alone: build it with the feature mpi, or nccl for GPUs, or start it \
             without a launcher"
        );
        Err(Error::Launcher { message })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} says that this is process {} of {}", self.launcher, self.rank, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)]) -> Result<Option<(&'static str, usize, usize)>, String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let place = place_in(variable).map_err(|e| e.to_string())?;
        Ok(place.map(|Place { launcher, rank, size, .. }| (launcher, rank, size)))
    }

    #[test]
    fn every_launcher_is_read_as_it_is() {
        let open_mpi = [("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "4")];
        assert_eq!(found(&[]), Ok(None));
        assert_eq!(found(&open_mpi), Ok(Some(("Open MPI's mpirun", 1, 4))));
        assert_eq!(found(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")]), Ok(Some(("mpiexec", 0, 2))));
        assert_eq!(found(&[("RANK", "7"), ("WORLD_SIZE", "8")]), Ok(Some(("torchrun", 7, 8))));
        let srun = [("SLURM_PROCID", "0"), ("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_NTASKS", "2")];
        assert_eq!(found(&srun), Ok(Some(("srun", 0, 2))));
        // A batch script that starts the program itself: there is one of it, whatever the job has room for.
        assert_eq!(found(&[srun[0], srun[2]]), Ok(None));
        // mpirun starts its own helper on every node by srun.
        assert_eq!(found(&[open_mpi, [srun[0], srun[1]]].concat()), Ok(Some(("Open MPI's mpirun", 1, 4))));
    }

    #[test]
    fn launchers_that_disagree_and_numbers_that_are_none_are_refused() {
        let two = [
            ("OMPI_COMM_WORLD_RANK", "1"),
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("RANK", "0"),
            ("WORLD_SIZE", "1"),
        ];
        let message = found(&two).unwrap_err();
        assert!(message.contains("process 1 of 4") && message.contains("process 0 of 1"), "{message}");
        for bad in [("4", "4"), ("-1", "2"), ("x", "2")] {
            let message = found(&[("PMI_RANK", bad.0), ("PMI_SIZE", bad.1)]).unwrap_err();
            assert!(message.contains(&format!("PMI_RANK={} and PMI_SIZE={}", bad.0, bad.1)), "{message}");
        }
        let place = |size| Place { launcher: "srun", rank: 0, size, local_rank: None };
        place(1).check_alone().unwrap();
        assert!(place(2).check_alone().unwrap_err().to_string().contains("trains alone"));
    }

    #[test]
    fn a_process_knows_its_place_on_its_machine() {
        for (launcher, [rank, size, local_rank]) in [
            (
                "Open MPI's mpirun",
                ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"],
            ),
            ("mpiexec", ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"]),
            ("torchrun", ["RANK", "WORLD_SIZE", "LOCAL_RANK"]),
            ("srun", ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"]),
        ] {
            let variable = |name: &str| {
                let known = [(rank, "5"), (size, "8"), (local_rank, "1")];
                known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            let expected = Place { launcher, rank: 5, size: 8, local_rank: Some(1) };
            assert_eq!(place_in(variable).unwrap(), Some(expected));
        }
    }

    #[test]
    fn processes_meet_where_their_launcher_says() {
        let met = |launcher, variables: &[(&str, &str)]| {
            let place = Place { launcher, rank: 1, size: 2, local_rank: None };
            let variable = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            MeetingPoint::find(&place, variable).map(|at| at.to_string()).map_err(|e| e.to_string())
        };
        let master = [("MASTER_ADDR", "node1"), ("MASTER_PORT", "29500")];
        assert_eq!(met("torchrun", &master).unwrap(), "node1:29501");
        assert_eq!(met("mpiexec", &master).unwrap(), "node1:29500");
        let slurm = [("SLURM_STEP_NODELIST", "gpu[07-09,12],login1"), ("SLURM_JOB_ID", "1234567")];
        assert_eq!(met("srun", &slurm).unwrap(), "gpu07:24567");
        assert_eq!(met("srun", &[slurm, master].concat()).unwrap(), "node1:29500");
        // A batch script that starts mpirun.
        let message = met("mpiexec", &slurm).unwrap_err();
        assert!(message.ends_with("found MASTER_ADDR=none and MASTER_PORT=none"), "{message}");
        for port in ["65535", "http", "-1"] {
            let message = met("torchrun", &[master[0], ("MASTER_PORT", port)]).unwrap_err();
            assert!(message.ends_with(&format!("found MASTER_PORT={port}")), "{message}");
        }
    }

    #[test]
    fn the_first_machine_of_slurms_lists() {
        for (machines, first) in [
            ("node1", "node1"),
            ("node1,node2", "node1"),
            ("gpu[07-09,12]", "gpu07"),
            ("gpu[12]", "gpu12"),
            ("rack[1-2]-ib,node3", "rack1-ib"),
            ("login1,gpu[1-2]", "login1"),
        ] {
            assert_eq!(first_machine(machines), first);
        }
    }
}
