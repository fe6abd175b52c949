//! What FairFace's own files are known by.
//!
//! The label files: `head -n 101 FILE | sha256sum` and `sha256sum FILE`. The crops: every 25th of `data/sample/images`
//! by number, `sha256sum val/N.jpg`; they are of padding 0.25, and a test holds them against the sample.

/// The official label file of a split.
pub(super) struct LabelFile {
    /// Rows of faces in it.
    pub(super) n_rows: usize,
    /// SHA-256 of the file.
    pub(super) sha256: &'static str,
    /// SHA-256 of its header and first [`HEAD_ROWS`] rows.
    pub(super) head_sha256: &'static str,
}

pub(super) const HEAD_ROWS: usize = 100;

pub(super) const TRAIN: LabelFile = LabelFile {
    n_rows: 86_744,
    sha256: "90624451f2214ae1aa84021ae51c19ce45a375bd0bff901b935feadc59514795",
    head_sha256: "371e1ad0039a9c4bb21c5103618dae6053d0011f38f5a73fde33c4e8d5a0c503",
};

pub(super) const VAL: LabelFile = LabelFile {
    n_rows: 10_954,
    sha256: "19906f6917373dc19385e23ff0bacb75767fd0f99569ae6201d268af33d4c96b",
    head_sha256: "1f97b9a06885d88c204d167567040650054696f8a38804997311d09c0f6b1937",
};

/// Official names of crops, and their SHA-256.
pub(super) const CROPS: [(&str, &str); 32] = [
    ("val/28.jpg", "24664bf93e361879b63451354ad3d0d4a223e8dbda1b34399ee2bf05fae1ad95"),
    ("val/418.jpg", "6a5f14fee4a87eb3c71b2ed3ac87c42de8eb41009f8f205d8949d12ee4de043f"),
    ("val/823.jpg", "3ba47d1868cb624dd4148f431b3514c464879dd09de5f9917929fb58ee66e006"),
    ("val/1132.jpg", "7f0748a4edc32341fb919444366ce5b0f827089ff8890d984dff26395b06add3"),
    ("val/1469.jpg", "089869bf336fc99183eeca49fdb5f462889b4f09fdb70a22a560ee6e5114fe01"),
    ("val/1809.jpg", "ef53d32aa96f11db98d65239bba896d851c26abc132dd1fb5e8fc9aa194587b5"),
    ("val/2131.jpg", "ad600d60209595f8036c0b736723542b4a6fc8d913168b1482adcc7849fa9cc4"),
    ("val/2500.jpg", "a5ec0f44e8a8a8c7825972c7e89aecafb9e0c716c719b294a90d0108f667fd64"),
    ("val/2904.jpg", "8454d28678f362f354074de7eb3b7d360944fabe10d22eaac1a82c901ce77ca4"),
    ("val/3140.jpg", "658906ec18f01f930557f5dae867105940a419d0e174e5ca1c504c2135734ba9"),
    ("val/3344.jpg", "05a9c3b29ee66fd83fad4571228c522b0dad4613cc4bc30ed9c3b8c28e8ccff8"),
    ("val/3649.jpg", "c1fc6fc00d614a7cd557699b27571096ea70c70c9659531e2edc9383df082992"),
    ("val/3922.jpg", "6019913e84dbb4ecec9e0255c873ea8fee9fa2adda944b7b721abcf8ebf563c2"),
    ("val/4187.jpg", "34d682c6604bc75ad8fd2b9c0cb45915f1cae8d8b948663073b8f4c6d5e80bdb"),
    ("val/4548.jpg", "227059488115f76a6ba8425e35e86caf0cb9250d13571876b5a20b8c05b4c65c"),
    ("val/4932.jpg", "45aecd45e42da5a5cbca81010939def886ace138424bec5cab34b792a08fa66d"),
    ("val/5420.jpg", "b69c9a2b4f2fb57b6d6f0951c9e2247f7337cba5ed821aedc77bce9690a619a9"),
    ("val/5798.jpg", "d94a5ff7235e3b92724278d778c79ce591d4ad8ecc1ea47444ad88ca996ddc17"),
    ("val/6209.jpg", "95ce2afd1ddf5ab94c68bc912aaf542b2d187bf846d5dc591748208be3ceb541"),
    ("val/6512.jpg", "39fe1033925066eba0697b73f69013650f03c7fe197405c2ec7e3df4a77160e9"),
    ("val/6735.jpg", "895cb283dd834681a7d0e53fef36a998f98322697e088d2e848b0201ac39a210"),
    ("val/7159.jpg", "05baaac6ad6ebbf52257b20d03c1aa973dcb45044bab04857affa923c2507a09"),
    ("val/7510.jpg", "8855c3aef8af5b77e8587648432105f9f2889f42e58ba93374203855ff7b0f84"),
    ("val/7786.jpg", "bfe08671398818356649a4c3ed0bd04466d61c35f44c14a8959db832c7482cce"),
    ("val/8102.jpg", "84370a8965953c29384c8cfc0c060942bd177a0d865a70b5ffff727aaa77f9d4"),
    ("val/8542.jpg", "3b2476a79bd530deacfd68b112c112a929d357b72a06e0b52bfb4bb2ba6022c1"),
    ("val/9072.jpg", "e0bdf6bf1f0693bf7e05b72e9afe505b7c596547af88428d8d5cdb4cc5cfce1a"),
    ("val/9350.jpg", "ebe40c0c80868c146f1d2460108a9a0476b2ed6b2b5f6136b52defc435c915d4"),
    ("val/9704.jpg", "4d4824b3b9645357712e81a02dafb0698137db6728c6fb1d9ee90ab6771c0f81"),
    ("val/10063.jpg", "c0e0c70f3a289f331560a2ca55faf8cfab3284025087c904e0d1ca9a8a327ec1"),
    ("val/10433.jpg", "e9afeb58360ad873fb4ccf90eb47cc0145798fd14a69ef898c9c9cfd7b7d6ee9"),
    ("val/10741.jpg", "18ee1811116f191ba1e35707d8658d944894194213ed45191e121da8c071928f"),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ff_core::files::sha256;

    use super::CROPS;

    #[test]
    fn the_known_crops_are_the_bundled_ones() {
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/sample/images");
        for (name, expected) in CROPS {
            assert_eq!(sha256(&fs_err::read(images.join(name)).unwrap()), expected, "{name}");
        }
    }
}
