//! Faults that a test asks for, at points that the program names.
//!
//! Code that writes, reads or takes a step says where it is by [`reach`]. Nothing happens there unless the environment
//! variable [`VARIABLE`] (a whole process) or [`during`] (the thread of a unit test) has a rule for the point:
//!
//! ```text
//! ACTION@POINT[:PART][#N[+]]        several rules with ; between them
//!
//! kill@rename:checkpoints/step-2    SIGKILL before the first rename whose path contains checkpoints/step-2
//! enospc@write#3+                   no room on the disk from the third write on
//! wait@step:4                       waits at step 4 until the test says go on
//! ```
//!
//! A killed process is killed by the system, not unwound: what is on the disk is what a power cut in the program's
//! place would leave, the system's caches apart. At a `wait` the file named by [`GATE`] is made and waited for until
//! it is gone, so that a test need not guess how long anything takes.

use std::cell::RefCell;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Environment variable with the rules of a process.
pub const VARIABLE: &str = "FAIRFACE_FAULT";
/// Environment variable with the file that a waiting process makes, and waits for to be removed.
pub const GATE: &str = "FAIRFACE_FAULT_GATE";

/// Where a program is. The name that goes with it is a path, or the number of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Before a file or folder is made.
    Create,
    /// Before bytes go into a file.
    Write,
    /// Before a file or folder is synced.
    Sync,
    /// Before a file or folder is renamed.
    Rename,
    /// Before a file gets a second name.
    Link,
    /// Before an old file or folder is removed.
    Remove,
    /// Before a file is read.
    Read,
    /// Before a training step.
    Step,
    /// Before a batch of an evaluation.
    Evaluate,
}

impl Point {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Create, "create"),
        (Self::Write, "write"),
        (Self::Sync, "sync"),
        (Self::Rename, "rename"),
        (Self::Link, "link"),
        (Self::Remove, "remove"),
        (Self::Read, "read"),
        (Self::Step, "step"),
        (Self::Evaluate, "evaluate"),
    ];
}

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// SIGKILL.
    Kill,
    /// Waits as [`GATE`] says.
    Wait,
    Panic,
    /// No room on the disk.
    Enospc,
    /// The disk is broken.
    Eio,
    /// The process has too many files open.
    Emfile,
}

impl Action {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Kill, "kill"),
        (Self::Wait, "wait"),
        (Self::Panic, "panic"),
        (Self::Enospc, "enospc"),
        (Self::Eio, "eio"),
        (Self::Emfile, "emfile"),
    ];
}

#[derive(Debug)]
struct Rule {
    action: Action,
    point: Point,
    part: String,
    /// Fires at the match with this number, from 1.
    nth: u64,
    /// And at all later ones.
    from_then_on: bool,
    matches: AtomicU64,
}

/// Rules, each with a count of its matches.
#[derive(Debug, Default)]
struct Plan(Vec<Rule>);

thread_local! {
    static OF_THIS_THREAD: RefCell<Option<Plan>> = const { RefCell::new(None) };
}

/// Says that the program is at a point; `name` is what it works on.
///
/// # Errors
/// The fault that a test asked for. Never without [`VARIABLE`] and [`during`].
///
/// # Panics
/// A test asked for it, or [`VARIABLE`] has no valid rules.
pub fn reach(point: Point, name: impl Display) -> io::Result<()> {
    static OF_THE_PROCESS: OnceLock<Plan> = OnceLock::new();
    let process = OF_THE_PROCESS.get_or_init(|| match std::env::var(VARIABLE) {
        Ok(text) => text.parse().unwrap_or_else(|e| panic!("{VARIABLE}: {e}")),
        Err(_) => Plan::default(),
    });
    process.reach(point, &name)?;
    OF_THIS_THREAD.with_borrow(|plan| plan.as_ref().map_or(Ok(()), |plan| plan.reach(point, &name)))
}

/// [`reach`] with a path for a name.
///
/// # Errors
/// As [`reach`]; the message names the path.
pub fn reach_path(point: Point, path: &Path) -> io::Result<()> {
    reach(point, path.display()).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

/// Runs `work` with these rules for what this thread reaches.
///
/// # Panics
/// The rules are none.
pub fn during<T>(rules: &str, work: impl FnOnce() -> T) -> T {
    struct Restore(Option<Plan>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OF_THIS_THREAD.set(self.0.take());
        }
    }
    let plan = rules.parse().unwrap_or_else(|e: String| panic!("{e}"));
    let _restore = Restore(OF_THIS_THREAD.replace(Some(plan)));
    work()
}

impl Plan {
    fn reach(&self, point: Point, name: &impl Display) -> io::Result<()> {
        self.0.iter().try_for_each(|rule| rule.reach(point, name))
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rules = text.split(';').map(str::trim).filter(|rule| !rule.is_empty());
        rules.map(Rule::from_str).collect::<Result<_, _>>().map(Self)
    }
}

impl Rule {
    fn reach(&self, point: Point, name: &impl Display) -> io::Result<()> {
        if point != self.point || !(self.part.is_empty() || name.to_string().contains(&self.part)) {
            return Ok(());
        }
        let nth = self.matches.fetch_add(1, Ordering::Relaxed) + 1;
        if nth != self.nth && !(self.from_then_on && nth > self.nth) {
            return Ok(());
        }
        let system = |code| Err(io::Error::from_raw_os_error(code));
        match self.action {
            Action::Kill => kill(),
            Action::Wait => wait(),
            Action::Panic => panic!("a test asked for it at {point:?} {name}"),
            Action::Enospc => system(28),
            Action::Eio => system(5),
            Action::Emfile => system(24),
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("expected ACTION@POINT[:PART][#N[+]], found {text:?}");
        let (action, rest) = text.split_once('@').ok_or_else(bad)?;
        let (rest, count) = rest.rsplit_once('#').unwrap_or((rest, "1"));
        let (point, part) = rest.split_once(':').unwrap_or((rest, ""));
        let nth = count.strip_suffix('+').unwrap_or(count);
        Ok(Self {
            action: named(&Action::ALL, action)?,
            point: named(&Point::ALL, point)?,
            part: part.to_owned(),
            nth: nth.parse().map_err(|_| bad())?,
            from_then_on: count.ends_with('+'),
            matches: AtomicU64::new(0),
        })
    }
}

fn named<T: Copy>(all: &[(T, &str)], name: &str) -> Result<T, String> {
    let found = all.iter().find(|(_, n)| *n == name);
    let names = || all.iter().map(|(_, n)| *n).collect::<Vec<_>>().join(", ");
    found.map(|(value, _)| *value).ok_or_else(|| format!("expected one of {}, found {name:?}", names()))
}

fn kill() -> ! {
    #[cfg(unix)]
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // Not reached where there are signals.
    std::process::abort()
}

fn wait() -> io::Result<()> {
    let gate = std::env::var_os(GATE).map(PathBuf::from);
    let gate = gate.unwrap_or_else(|| panic!("expected {GATE}, the file to wait for"));
    fs_err::write(&gate, [])?;
    while gate.exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_comes_at_its_point_and_as_often_as_asked() {
        let faults = |rules: &str| -> Vec<bool> {
            let at = |name: &str| reach(Point::Write, name).is_err();
            during(rules, || ["a", "b", "ab", "b"].into_iter().map(at).collect())
        };
        assert_eq!(faults("eio@write"), [true, false, false, false]);
        assert_eq!(faults("eio@write:b#2"), [false, false, true, false]);
        assert_eq!(faults("enospc@write:b#1+"), [false, true, true, true]);
        assert_eq!(faults("eio@sync"), [false; 4]);
        assert_eq!(faults("eio@write:a; eio@write:b#3"), [true, false, false, true]);
        assert!(reach(Point::Write, "a").is_ok(), "no rule outlives its test");
    }

    #[test]
    fn an_error_says_what_the_system_would_and_where() {
        let error = during("enospc@write", || reach_path(Point::Write, Path::new("x/y"))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().starts_with("x/y: "), "{error}");
    }

    #[test]
    fn rules_that_are_none_are_refused() {
        for rules in ["kill", "kill@nowhere", "maim@write", "eio@write#x"] {
            assert!(rules.parse::<Plan>().is_err(), "{rules}");
        }
    }
}
