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
}

/// A launcher with its variables.
struct Launcher {
    name: &'static str,
    rank: &'static str,
    size: &'static str,
}

const fn launcher(name: &'static str, rank: &'static str, size: &'static str) -> Launcher {
    Launcher { name, rank, size }
}

/// Those that start the very process that reads this.
const LAUNCHERS: [Launcher; 3] = [
    launcher("Open MPI's mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    // MPICH, Intel MPI, and what else speaks PMI; srun too where it is asked to.
    launcher("mpiexec", "PMI_RANK", "PMI_SIZE"),
    launcher("torchrun", "RANK", "WORLD_SIZE"),
];
/// One that may have started another launcher, which then knows better. Beside a batch script's own variables srun sets
/// those of its step.
const SRUN: Launcher = launcher("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS");

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
        let Self { name, rank, size } = *self;
        let (Some(rank_text), Some(size_text)) = (variable(rank), variable(size)) else { return Ok(None) };
        match (rank_text.parse(), size_text.parse()) {
            (Ok(rank), Ok(size)) if rank < size => Ok(Some(Place { launcher: name, rank, size })),
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
            "{self}, and this program trains alone: build it with the feature mpi, or start it without a launcher"
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
        Ok(place.map(|Place { launcher, rank, size }| (launcher, rank, size)))
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
        let place = |size| Place { launcher: "srun", rank: 0, size };
        place(1).check_alone().unwrap();
        assert!(place(2).check_alone().unwrap_err().to_string().contains("trains alone"));
    }
}
