//! Which backbone: by name, as configurations and model files say it, and as `ff_kernels::network` describes it.

use std::fmt;
use std::str::FromStr;

use ff_kernels::network::{Config, Layout};
use serde::{Deserialize, Serialize};

/// The metadata entry of a model file that says its architecture.
pub(crate) const METADATA_KEY: &str = "architecture";

/// A backbone that weights are known for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// torchvision's `resnet18`: half the work of ResNet-34.
    Resnet18,
    /// torchvision's `resnet34`, FairFace's own.
    #[default]
    Resnet34,
}

impl Architecture {
    /// Every architecture.
    pub const ALL: [Self; 2] = [Self::Resnet18, Self::Resnet34];

    /// torchvision's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resnet18 => "resnet18",
            Self::Resnet34 => "resnet34",
        }
    }

    /// The paper's name of it, for tables.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Resnet18 => "ResNet-18",
            Self::Resnet34 => "ResNet-34",
        }
    }

    /// How wide and deep it is.
    pub fn config(self) -> Config {
        match self {
            Self::Resnet18 => Config::resnet18(),
            Self::Resnet34 => Config::resnet34(),
        }
    }

    /// Its convolutions and norms.
    pub fn layout(self) -> Layout {
        Layout::new(&self.config())
    }

    /// Length of its embedding.
    pub fn embedding_len(self) -> usize {
        self.config().embedding_len()
    }

    /// The entry of a model file's metadata that says it. ResNet-34's files have none: those of older versions do not.
    pub(crate) fn metadata(self) -> Option<(&'static str, &'static str)> {
        (self != Self::default()).then(|| (METADATA_KEY, self.name()))
    }

    /// The architecture whose blocks these are, by torchvision's names of tensors (`layer1.0.conv1.weight`); `None`
    /// where no architecture has just these.
    pub fn of_tensors<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut depths = [0; 4];
        for name in names {
            let Some((stage, rest)) = name.strip_prefix("layer").and_then(|name| name.split_once('.')) else {
                continue;
            };
            let block = rest.split_once('.').and_then(|(block, _)| block.parse::<usize>().ok())?;
            let depth =
                stage.parse::<usize>().ok().and_then(|stage| depths.get_mut(stage.checked_sub(1)?))?;
            *depth = block.saturating_add(1).max(*depth);
        }
        let has = |architecture: &Self| architecture.config().stages.iter().map(|s| s.depth).eq(depths);
        Self::ALL.into_iter().find(has)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Architecture {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|architecture| architecture.name() == s);
        found.ok_or_else(|| format!("expected resnet18 or resnet34, found `{s}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_is_told_by_the_names_of_its_tensors() {
        for architecture in Architecture::ALL {
            let layout = architecture.layout();
            let names = || layout.parameters.iter().map(|parameter| parameter.name.as_str());
            assert_eq!(Architecture::of_tensors(names().chain(["fc.weight"])), Some(architecture));
            assert_eq!(architecture.name().parse(), Ok(architecture));
            let cut = names().filter(|name| !name.starts_with("layer4.1"));
            assert_ne!(Architecture::of_tensors(cut), Some(Architecture::Resnet18));
        }
        for strange in ["layer1.", "layer0.0.conv1.weight", "layer9.1.bn1.weight", "layer1.-1.x", "fc.bias"] {
            assert_eq!(Architecture::of_tensors([strange]), None);
        }
        assert!("resnet50".parse::<Architecture>().is_err());
    }
}
