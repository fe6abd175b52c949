//! Requirements that a check in continuous integration sets: read before the work, judged after it.
//!
//! What is not met is exit code 3, what cannot be read 2. Without these flags no finding makes a command fail.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use ff_eval::{Outcome, Requirement, junit};

use crate::output_file::{ForceFlag, Kind, OutputFile};
use crate::{Ending, output};

/// What must hold.
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
pub struct RequireFlags {
    /// A figure and its bound; may be given several times. Exit code 3 when one is not met.
    ///
    /// TASK.FIGURE or accuracy (the mean over the tasks), [COLUMNS] for what lies between groups, @lower or @upper for
    /// an end of the 95 % interval, then >=, <=, > or <: 'age.accuracy@lower>=0.55', 'race.accuracy_gap[gender]<=0.10'.
    /// Of a comparison .diff is the second less the first: 'accuracy.diff@lower>=-0.01'. A figure that is not defined,
    /// as where no group is large enough, does not pass.
    #[arg(long, value_name = "REQUIREMENT")]
    require: Vec<String>,
    /// A TOML file with more of them: [require], then lines as "age.accuracy" = ">=0.55".
    #[arg(long, value_name = "FILE")]
    requirements: Option<PathBuf>,
    #[command(flatten)]
    junit: JunitFlag,
}

/// Where to write what became of requirements.
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
pub struct JunitFlag {
    /// Write what became of the requirements as JUnit XML, which continuous integration shows.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// Requirements that can be judged.
pub struct Gates {
    requirements: Vec<Requirement>,
    junit: Option<OutputFile>,
}

impl RequireFlags {
    /// Reads the requirements, and makes sure that their outcome can be written.
    ///
    /// # Errors
    /// One that cannot be read: a usage error.
    pub fn read(&self, force: ForceFlag) -> Result<Gates> {
        let parsed = self.require.iter().map(|text| text.parse());
        let mut requirements = parsed.collect::<ff_eval::Result<Vec<Requirement>>>()?;
        if let Some(path) = &self.requirements {
            requirements.extend(Requirement::read_all(path)?);
        }
        Ok(Gates { requirements, junit: self.junit.claim(force)? })
    }
}

impl JunitFlag {
    /// Makes sure that the file can be written.
    ///
    /// # Errors
    /// As [`OutputFile::claim`].
    pub fn claim(&self, force: ForceFlag) -> Result<Option<OutputFile>> {
        self.junit.as_deref().map(|path| OutputFile::claim(path, Kind::Junit, force)).transpose()
    }
}

impl Gates {
    /// Makes sure, before the work, that the requirements can be judged.
    ///
    /// # Errors
    /// One of them cannot.
    pub fn expect(&self, can_check: impl Fn(&Requirement) -> ff_eval::Result<()>) -> Result<()> {
        Ok(self.requirements.iter().try_for_each(can_check)?)
    }

    /// Judges the requirements by `check`.
    ///
    /// # Errors
    /// One names what was not evaluated; the outcome cannot be written.
    pub fn judge(&self, check: impl Fn(&Requirement) -> ff_eval::Result<Outcome>) -> Result<Vec<Outcome>> {
        let outcomes = self.requirements.iter().map(check).collect::<ff_eval::Result<Vec<_>>>()?;
        write_junit(self.junit.as_ref(), &outcomes)?;
        Ok(outcomes)
    }
}

/// Writes outcomes, if they are wanted.
///
/// # Errors
/// The file cannot be written.
pub fn write_junit(file: Option<&OutputFile>, outcomes: &[Outcome]) -> Result<()> {
    file.map_or(Ok(()), |file| file.write(junit(outcomes).as_bytes()))
}

/// A line a requirement.
pub fn print(outcomes: &[Outcome]) {
    for (i, outcome) in outcomes.iter().enumerate() {
        let space = if i == 0 { "\n" } else { "" };
        output::say!("{space}{outcome}");
    }
}

/// How a command ends that found this.
pub fn ending(outcomes: &[Outcome]) -> Ending {
    if outcomes.iter().all(|outcome| outcome.met) { Ending::Success } else { Ending::NotMet }
}
