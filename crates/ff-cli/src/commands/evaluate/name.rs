//! What a saved evaluation is called: by the samples and by every option that is not the usual one, so that none
//! replaces another. `test`, `test-last-flip`, `mine-1f2e3d4c-service_test`.

use std::path::Path;

use ff_core::files::sha256;
use ff_eval::Bootstrap;

use super::{Args, DEFAULT_GROUPS};

/// Longest part of a name; longer ones are cut, and told apart by their hash.
const MOST_CHARACTERS: usize = 40;

/// The name of what `args` ask for; `labels` are the bytes of a CSV of one's own.
pub fn name(args: &Args, labels: Option<&[u8]>) -> String {
    let images = args.images.as_deref().map(absolute);
    let mut parts = match (&args.csv, labels) {
        (Some(csv), labels) => {
            let stem = csv.file_stem().unwrap_or_default().to_string_lossy();
            let key = [absolute(csv), images.unwrap_or_default(), labels.map(sha256).unwrap_or_default()];
            vec![plain(&stem), hash(&key.join("\0"))]
        }
        (None, _) => {
            let images = images.map(|images| format!("images-{}", hash(&images)));
            [Some(args.split.split().name().to_owned()), images].into_iter().flatten().collect()
        }
    };
    parts.extend(args.subset.as_deref().map(plain));
    parts.extend(args.model.other_checkpoint().map(str::to_owned));
    parts.extend(args.tta.name().map(str::to_owned));
    parts.extend(args.calibrate_on.as_deref().map(|csv| format!("calibrated-{}", hash(&absolute(csv)))));
    parts.extend((args.calibrate && args.calibrate_on.is_none()).then(|| "calibrated".to_owned()));
    let groups = args.group_by.as_ref().filter(|groups| **groups != DEFAULT_GROUPS);
    let groups = groups.map(|groups| groups.iter().map(|name| plain(name)).collect::<Vec<_>>().join("+"));
    parts.extend(groups.map(|groups| format!("by-{groups}")));
    let (usual, bootstrap) = (Bootstrap::default(), Bootstrap::from(args.bootstrap));
    parts.extend(
        (bootstrap.resamples != usual.resamples).then(|| format!("bootstrap-{}", bootstrap.resamples)),
    );
    parts.extend((bootstrap.seed != usual.seed).then(|| format!("seed-{}", bootstrap.seed)));
    parts.join("-")
}

/// Words of a user as a part of a file name: letters and digits stay, whatever else gets a hash to tell it apart, so
/// that no column steers a record out of its folder.
fn plain(words: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let same: String = words.chars().take_while(kept).take(MOST_CHARACTERS).collect();
    if same == words && !words.is_empty() {
        return same;
    }
    let kept: String = words.chars().filter(kept).take(MOST_CHARACTERS).collect();
    if kept.is_empty() { hash(words) } else { format!("{kept}-{}", hash(words)) }
}

fn hash(text: &str) -> String {
    sha256(text.as_bytes()).chars().take(8).collect()
}

/// A path as it is the same from everywhere, as far as it exists.
fn absolute(path: &Path) -> String {
    let found = fs_err::canonicalize(path).or_else(|_| std::path::absolute(path));
    found.unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn named(args: &[&str]) -> String {
        let args = Cli::parse_from([&["evaluate", "--run", "run"], args].concat()).args;
        name(&args, args.csv.is_some().then_some(b"file,age\n".as_slice()))
    }

    /// Records of different files and options once replaced each other.
    #[test]
    fn every_option_that_changes_an_evaluation_changes_its_name() {
        let options: &[&[&str]] = &[
            &[],
            &["--split", "test"],
            &["--checkpoint", "last"],
            &["--tta", "flip"],
            &["--calibrate"],
            &["--calibrate-on", "a.csv"],
            &["--calibrate-on", "b.csv"],
            &["--subset", "service_test"],
            &["--subset", "service test"],
            &["--subset", "service/test"],
            &["--group-by", "race"],
            &["--group-by", "race,gender,age"],
            &["--bootstrap", "50"],
            &["--seed", "7"],
            &["--images", "elsewhere"],
            &["--csv", "val.csv"],
            &["--csv", "other/val.csv"],
            &["--csv", "val.csv", "--images", "elsewhere"],
            &["--csv", "val.csv", "--tta", "flip"],
        ];
        let mut names: Vec<String> = options.iter().map(|args| named(args)).collect();
        assert_eq!(names[..4], ["val", "test", "val-last", "val-flip"]);
        names.sort_unstable();
        let n = names.len();
        names.dedup();
        assert_eq!(names.len(), n, "{names:?}");
        assert_eq!(
            named(&["--csv", "val.csv"]),
            named(&["--csv", "val.csv"]),
            "the same again is the same name"
        );
    }

    /// A column called `../../x` was a path.
    #[test]
    fn no_word_of_a_user_leaves_the_folder() {
        for word in ["../../etc/passwd", "/etc/passwd", "..", "a\\b", "x\0y", "", &"long".repeat(100)] {
            let name = plain(word);
            let safe = name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
            assert!(safe && !name.is_empty() && name.len() <= 50, "{word:?} became {name}");
        }
    }
}
