//! safetensors files, checked before anything is made of them: the header's length and JSON, then every tensor's type,
//! shape and bytes. What is wrong is said with the tensor's name.
//!
//! The format: the header's length (u64, little-endian), the header as JSON, the tensors' bytes without gaps between.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorInfo;
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

use super::compact::{self, SCALE};

/// Bytes of a header. This network's is 20 KB; JSON takes about ten times its length in memory while it is read.
const MAX_HEADER: usize = 4 << 20;

/// The contents of a safetensors file.
#[derive(Debug)]
pub(super) struct TensorFile {
    pub(super) tensors: BTreeMap<String, Tensor>,
    pub(super) metadata: HashMap<String, String>,
}

impl TensorFile {
    /// Reads a file's bytes.
    ///
    /// # Errors
    /// It is none, cut off, or tensors and bytes do not belong together.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let Some((len, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(format!("expected a header's length in 8 bytes, found {} bytes", bytes.len()));
        };
        let len = u64::from_le_bytes(*len);
        if len > MAX_HEADER as u64 {
            return Err(format!("expected a header of at most {MAX_HEADER} bytes, found one of {len}"));
        }
        let Some((header, data)) = rest.split_at_checked(len as usize) else {
            return Err(format!("expected a header of {len} bytes, found {}: cut off", rest.len()));
        };
        let Header { mut tensors, metadata } =
            serde_json::from_slice(header).map_err(|e| format!("expected a header in JSON, found: {e}"))?;
        tensors.sort_by_key(|(_, info)| info.data_offsets);
        let (mut named, mut in_8_bits, mut end) = (BTreeMap::new(), Vec::new(), 0);
        for (name, info) in tensors {
            let bytes = next_bytes(&info, &mut end, data).map_err(|problem| format!("{name}: {problem}"))?;
            if info.dtype == compact::DTYPE {
                in_8_bits.push((name, info.shape, bytes));
                continue;
            }
            let tensor = read(&info, bytes).map_err(|problem| format!("{name}: {problem}"))?;
            named.insert(name, tensor);
        }
        if end < data.len() {
            return Err(format!("expected {end} bytes of tensors, found {}", data.len()));
        }
        for (name, shape, codes) in in_8_bits {
            let scales = named.remove(&format!("{name}{SCALE}"));
            let weight = compact::dequantise(codes, &shape, scales.as_ref())
                .map_err(|problem| format!("{name}: {problem}"))?;
            named.insert(name, weight);
        }
        Ok(Self { tensors: named, metadata })
    }
}

/// The bytes of the next tensor, which begin at `end`; that is moved behind them.
fn next_bytes<'a>(info: &TensorInfo, end: &mut usize, data: &'a [u8]) -> Result<&'a [u8], String> {
    let TensorInfo { dtype, shape, data_offsets } = info;
    let (begin, until) = *data_offsets;
    if begin > until {
        return Err(format!("expected bytes from a place to a later one, found {begin} to {until}"));
    }
    if begin < *end {
        return Err(format!("expected its bytes from {end} on, found {begin}: it overlaps another tensor"));
    }
    if begin > *end {
        return Err(format!(
            "expected its bytes from {end} on, found {begin}: nothing is said of those between"
        ));
    }
    let bytes = data.get(begin..until).ok_or_else(|| {
        format!("expected its bytes up to {until}, found the file's end at {}: cut off", data.len())
    })?;
    let size = match DType::try_from(*dtype) {
        Ok(dtype) if is_read(dtype) => dtype.size_in_bytes(),
        _ if *dtype == compact::DTYPE => size_of::<i8>(),
        _ => return Err(format!("expected type F32, F16, BF16 or I8 with scales, found {dtype:?}")),
    };
    let n_bytes = shape.iter().try_fold(size, |n, &dim| n.checked_mul(dim));
    if n_bytes != Some(bytes.len()) {
        let n_bytes = n_bytes.map_or_else(|| "more than there can be".to_owned(), |n| n.to_string());
        return Err(format!(
            "expected {n_bytes} bytes for shape {shape:?} of {dtype:?}, found {}",
            bytes.len()
        ));
    }
    *end = until;
    Ok(bytes)
}

fn read(info: &TensorInfo, bytes: &[u8]) -> Result<Tensor, String> {
    let dtype = DType::try_from(info.dtype).map_err(|e| e.to_string())?;
    Tensor::from_raw_buffer(bytes, dtype, &info.shape, &Device::Cpu).map_err(|e| e.to_string())
}

/// Types of tensors that this network has, or that may stand beside them.
fn is_read(dtype: DType) -> bool {
    use DType::{BF16, F16, F32, F64, I16, I32, I64, U8, U32};
    matches!(dtype, U8 | U32 | I16 | I32 | I64 | F16 | BF16 | F32 | F64)
}

/// The header, with tensors in the order of the file.
struct Header {
    tensors: Vec<(String, TensorInfo)>,
    metadata: HashMap<String, String>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut header = Header { tensors: Vec::new(), metadata: HashMap::new() };
        let mut names = std::collections::HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format!("{name}: expected one tensor of this name, found two")));
            }
            if name == "__metadata__" {
                header.metadata = map.next_value()?;
                continue;
            }
            // By way of a value, so that the message can name the tensor.
            let info = serde_json::from_value(map.next_value()?);
            header.tensors.push((
                name.clone(),
                info.map_err(|e| {
                    A::Error::custom(format!("{name}: expected type, shape and place, found: {e}"))
                })?,
            ));
        }
        Ok(header)
    }
}
