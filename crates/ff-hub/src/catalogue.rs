//! Models that are known by name: where they lie, what tells that a file is them, whose they are.
//!
//! What is not known is `None`, and said so. A model without a SHA-256 of its file would be what the hub says it is.

use crate::address::RemoteFile;
use crate::hub::{HubFile, RepositoryKind};

/// A model that can be asked for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownModel {
    /// What to call it. A backbone's is that of its architecture.
    pub name: &'static str,
    /// What it is, and what others call it.
    pub title: &'static str,
    /// What it is good for.
    pub purpose: Purpose,
    /// Where it is published.
    pub place: Place,
    /// Bytes of the published file.
    pub bytes: Option<u64>,
    /// SHA-256 of the published file.
    pub file_sha256: Option<&'static str>,
    /// SHA-256 of the backbone's names, shapes and values, the same in every container: see
    /// `ff_model::weights::Converted`.
    pub backbone_sha256: Option<&'static str>,
    /// The licence of the weights.
    pub licence: &'static str,
    /// Whom to name.
    pub credit: &'static str,
}

/// What a model is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A backbone without heads, from which training starts.
    Backbone,
    /// A whole model, which predicts.
    Prediction,
}

/// Where a file is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a repository of the hub.
    Hub(HubFile<'static>),
    /// At an address, by which nothing but the SHA-256 tells what it is.
    Address(RemoteFile<'static>),
}

/// torchvision's ImageNet weights of ResNet-34, the default.
///
/// The file's SHA-256 and length are as others have published them, the backbone's SHA-256 was computed from a copy
/// that was at hand. The commit is that of 10 February 2024: what is pushed later is not taken.
pub const RESNET34: KnownModel = KnownModel {
    name: "resnet34",
    title: "torchvision's ResNet34_Weights.IMAGENET1K_V1",
    purpose: Purpose::Backbone,
    place: on_the_hub("timm/resnet34.tv_in1k", "c983eba7f5e69bc3548a626d1b0b0b914e5de3a6"),
    bytes: Some(87_278_522),
    file_sha256: Some("0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235"),
    backbone_sha256: Some("8abaab25a84b4ad5394a17c69494ebbffc241cbf9c2700e4e31777a950865714"),
    licence: "BSD-3-Clause",
    credit: "torchvision; He, Zhang, Ren and Sun, CVPR 2016",
};

/// torchvision's ImageNet weights of ResNet-18. Commit, length and SHA-256 are as others have published them.
pub const RESNET18: KnownModel = KnownModel {
    name: "resnet18",
    title: "torchvision's ResNet18_Weights.IMAGENET1K_V1",
    purpose: Purpose::Backbone,
    place: on_the_hub("timm/resnet18.tv_in1k", "bbd144b3e5565108aad885f145491d11bc6ce807"),
    bytes: Some(46_807_446),
    file_sha256: Some("694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81"),
    backbone_sha256: None,
    licence: "BSD-3-Clause",
    credit: "torchvision; He, Zhang, Ren and Sun, CVPR 2016",
};

/// FairFace's published ResNet-34 with seven races. The SHA-256 is as others have published it; the length is not
/// known.
pub const FAIRFACE: KnownModel = KnownModel {
    name: "fairface",
    title: "FairFace's own ResNet-34: age, gender and seven races",
    purpose: Purpose::Prediction,
    place: Place::Address(RemoteFile {
        address: "https://github.com/yakhyo/fairface-onnx/releases/download/weights/fairface.onnx",
        bytes: None,
        sha256: FAIRFACE_SHA256,
    }),
    bytes: None,
    file_sha256: Some(FAIRFACE_SHA256),
    backbone_sha256: None,
    licence: "CC BY 4.0",
    credit: "FairFace, Kärkkäinen and Joo, WACV 2021; as ONNX by yakhyo",
};

const FAIRFACE_SHA256: &str = "9c8c47d437cd310538d233f2465f9ed0524cb7fb51882a37f74e8bc22437fdbf";

/// All of them, the default first.
pub const MODELS: [&KnownModel; 3] = [&RESNET34, &RESNET18, &FAIRFACE];

/// The model of this name.
pub fn find(name: &str) -> Option<&'static KnownModel> {
    MODELS.into_iter().find(|model| model.name == name)
}

/// The model that is published in this repository of the hub.
pub fn in_repository(repository: &str) -> Option<&'static KnownModel> {
    MODELS.into_iter().find(|model| matches!(model.place, Place::Hub(file) if file.repository == repository))
}

const fn on_the_hub(repository: &'static str, revision: &'static str) -> Place {
    Place::Hub(HubFile { repository, kind: RepositoryKind::Model, revision, file: "model.safetensors" })
}

impl KnownModel {
    /// Whether a file with these two sums is this model: one that is known and agrees is enough.
    pub fn is(&self, file_sha256: &str, backbone_sha256: &str) -> bool {
        self.file_sha256 == Some(file_sha256) || self.backbone_sha256 == Some(backbone_sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slip in a constant would refuse the right file, or take any.
    #[test]
    fn every_model_is_found_by_name_and_pinned_by_whole_sums() {
        for model in MODELS {
            assert_eq!(find(model.name), Some(model));
            let sums = [model.file_sha256, model.backbone_sha256].into_iter().flatten();
            assert!(sums.clone().count() > 0, "{}", model.name);
            for sum in sums {
                assert!(
                    sum.len() == 64 && sum.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')),
                    "{sum}"
                );
                assert!(model.is(sum, "") || model.is("", sum));
            }
            assert!(!model.is("", ""));
            match model.place {
                Place::Hub(file) => {
                    assert_eq!(in_repository(file.repository), Some(model));
                    assert_eq!(file.revision.len(), 40, "a commit, which does not move");
                }
                Place::Address(file) => {
                    assert!(file.address.starts_with("https://"));
                    assert_eq!((Some(file.sha256), file.bytes), (model.file_sha256, model.bytes));
                }
            }
        }
        assert_eq!(find("fairfase"), None);
    }
}
