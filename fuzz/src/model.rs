//! What ff-model reads: weights.

use std::path::Path;

use ff_model::weights::{Scope, WeightFile};

/// How `torch.save` began a file before PyTorch 1.6.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// A safetensors file, and the same bytes as the header of one.
pub fn safetensors(bytes: &[u8]) {
    weights(bytes.to_vec());
    let len = (bytes.len() as u64).to_le_bytes();
    weights([&len, bytes, &[0; 64]].concat());
}

/// A PyTorch state dict of either format.
pub fn state_dict(bytes: &[u8]) {
    weights(bytes.to_vec());
}

/// A network as ONNX, and the same bytes as the graph of one.
pub fn onnx(bytes: &[u8]) {
    weights(bytes.to_vec());
    let mut len = bytes.len();
    let mut graph = vec![0x08, 0x08, 0x3a];
    while len >= 0x80 {
        graph.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    graph.push(len as u8);
    weights([&graph, bytes].concat());
}

/// A pickle, in both formats around it: storages `0` and `1` have 64 bytes.
pub fn pickle(bytes: &[u8]) {
    weights(archive(&[("a/data.pkl", bytes), ("a/data/0", &[0; 64]), ("a/data/1", &[1; 64])]));
    weights([LEGACY, b"\x80\x02N.", b"\x80\x02N.", bytes].concat());
}

/// A zip archive of stored files.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let place = archive.len() as u32;
        let mut entry = vec![0; 12];
        entry.extend(crc32fast::hash(bytes).to_le_bytes());
        entry.extend((bytes.len() as u32).to_le_bytes());
        entry.extend((bytes.len() as u32).to_le_bytes());
        entry.extend((name.len() as u32).to_le_bytes());
        archive.extend([b"PK\x03\x04", &entry[2..], name.as_bytes(), bytes].concat());
        let rest = [&[0; 10], &place.to_le_bytes()[..], name.as_bytes()].concat();
        directory.extend([b"PK\x01\x02", &entry[..], &rest].concat());
    }
    let [n, len, place] = [files.len(), directory.len(), archive.len()].map(|n| (n as u32).to_le_bytes());
    let end = [b"PK\x05\x06", &[0; 4][..], &n[..2], &n[..2], &len, &place, &[0; 2]].concat();
    [archive, directory, end].concat()
}

fn weights(bytes: Vec<u8>) {
    match WeightFile::parse(Path::new("weights"), bytes) {
        Ok(file) => {
            let scope = if file.labels().is_some() { Scope::Model } else { Scope::Backbone };
            let _ = file.check(scope, &file.heads()).map_err(has_cause);
        }
        Err(error) => has_cause(error),
    }
}

fn has_cause(error: impl std::fmt::Display) {
    assert!(!error.to_string().trim().is_empty());
}
