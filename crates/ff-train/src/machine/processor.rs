//! Which processor this is, and how busy: what a figure of speed is worth nothing without.

use std::collections::BTreeMap;

use serde::Serialize;

/// What decides how fast convolutions can be, in the order of Linux's names for it.
const FEATURES: [&str; 11] = [
    "avx2",
    "fma",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "avx512_fp16",
    "avx_vnni",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
];

/// A processor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Processor {
    /// As its maker calls it; virtual machines may hide the model in it.
    pub name: String,
    /// Its family and model, which tell what `name` may not; known of x86 on Linux.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family_and_model: Option<(u32, u32)>,
    /// Of the instruction sets that matter here, those that it has, by Linux's names.
    pub features: Vec<String>,
}

impl Processor {
    /// Looks now. Beside Linux only the name is known.
    pub fn look() -> Self {
        match fs_err::read_to_string("/proc/cpuinfo") {
            Ok(text) => Self::of_cpuinfo(&text),
            Err(_) => Self { name: brand(), ..Self::default() },
        }
    }

    /// The first processor of a `/proc/cpuinfo`.
    fn of_cpuinfo(text: &str) -> Self {
        let lines = text.lines().take_while(|line| !line.trim().is_empty());
        let fields: BTreeMap<&str, &str> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let number = |key: &str| fields.get(key)?.parse().ok();
        let flags = fields.get("flags").or(fields.get("Features")).copied().unwrap_or_default();
        let has = |feature: &&str| flags.split_whitespace().any(|flag| flag == *feature);
        Self {
            name: fields.get("model name").map_or_else(brand, |&name| name.to_owned()),
            family_and_model: number("cpu family").zip(number("model")),
            features: FEATURES.into_iter().filter(has).map(str::to_owned).collect(),
        }
    }
}

fn brand() -> String {
    let mut system = sysinfo::System::new();
    system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
    system.cpus().first().map_or(String::new(), |cpu| cpu.brand().trim().to_owned())
}

/// Processes that ran or wanted to, on average over the last minute; `None` where the system does not say.
pub fn load_average() -> Option<f64> {
    if cfg!(windows) { None } else { Some(sysinfo::System::load_average().one) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_told_by_name_model_and_what_it_has() {
        let x86 = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\
                   flags\t\t: fpu sse2 fma avx2 avx512f avx_vnni avx512_bf16 avx512_vnni\n\n\
                   processor\t: 1\nmodel name\t: another\n";
        let found = Processor::of_cpuinfo(x86);
        assert_eq!((found.name.as_str(), found.family_and_model), ("AMD EPYC", Some((26, 2))));
        assert_eq!(
            found.features,
            ["avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni"],
            "in the order of the list"
        );
        // No name there, and flags under another key.
        let arm =
            Processor::of_cpuinfo("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\nCPU part\t: 0xd40\n");
        assert_eq!((arm.family_and_model, arm.features), (None, vec!["asimd".to_owned(), "bf16".to_owned()]));
        assert_eq!(Processor::of_cpuinfo("").features, [""; 0]);
    }
}
