//! PyTorch state dicts, as `torch.save(model.state_dict(), path)` writes them: the zip archive of PyTorch 1.6 and
//! later, and the older stream of pickles that FairFace's released files and many of torchvision's are.
//!
//! Pickles are read by candle's interpreter, which builds plain data and calls nothing: no code from a file is ever
//! run. A dictionary that holds the state dict under a usual name (`state_dict`, `model`, ...) is looked into.

use std::collections::{BTreeMap, HashMap};
use std::panic::catch_unwind;
use std::path::Path;

use candle_core::pickle::{Object, PthTensors, Stack, TensorInfo};
use candle_core::{Device, Tensor};

use crate::{Error, Result};

/// How a zip archive begins.
const ZIP: &[u8] = b"PK\x03\x04";
/// How the older format begins: `torch.serialization.MAGIC_NUMBER`, pickled.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// Where training scripts put the state dict.
const NESTED: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];

/// Whether a file begins as `torch.save` begins one.
pub(super) fn is_state_dict(bytes: &[u8]) -> bool {
    bytes.starts_with(ZIP) || bytes.starts_with(LEGACY)
}

/// The tensors of the state dict in `bytes`, the contents of `path`.
///
/// # Errors
/// [`Error::Pickle`]: damaged, no state dict, or tensors of a type or layout that are not read.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let bad = |message: String| Error::Pickle { path: path.to_owned(), message };
    // Candle's reader indexes into tuples without a look at their length; a forged file may make it panic.
    let read = || if bytes.starts_with(ZIP) { read_zip(path) } else { read_legacy(bytes) };
    let tensors = catch_unwind(read).unwrap_or_else(|_| Err(Problem::new("malformed pickle")));
    let tensors = tensors.map_err(|problem| bad(problem.0))?;
    if tensors.is_empty() {
        return Err(bad("expected a state dict, found no tensors by name; save model.state_dict() \
                        instead of the model"
            .to_owned()));
    }
    Ok(tensors)
}

/// What is wrong with a file, before its path is added.
struct Problem(String);

impl Problem {
    fn new(message: impl std::fmt::Display) -> Self {
        Self(message.to_string())
    }
}

impl From<candle_core::Error> for Problem {
    fn from(error: candle_core::Error) -> Self {
        Self::new(error)
    }
}

fn read_zip(path: &Path) -> Result<BTreeMap<String, Tensor>, Problem> {
    let mut archive = PthTensors::new(path, None)?;
    for key in NESTED {
        if archive.tensor_infos().is_empty() {
            archive = PthTensors::new(path, Some(key)).unwrap_or(archive);
        }
    }
    let names = archive.tensor_infos().keys();
    let tensors = names.map(|name| Ok((name.clone(), archive.get(name)?.expect("named by the archive"))));
    tensors.collect()
}

/// Magic number, protocol and system as pickles; the state dict; the storages' keys; then each storage as its length
/// in elements (i64) and its bytes. All little-endian.
fn read_legacy(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, Problem> {
    let mut rest = &bytes[LEGACY.len()..];
    let _protocol = next_pickle(&mut rest)?;
    let _system = next_pickle(&mut rest)?;
    let infos = tensor_infos(next_pickle(&mut rest)?)?;
    let Object::List(keys) = next_pickle(&mut rest)? else {
        return Err(Problem::new("expected a list of storages, found something else"));
    };
    let element_size: HashMap<&str, usize> =
        infos.iter().map(|info| (storage_key(info), info.dtype.size_in_bytes())).collect();
    let mut storages = HashMap::new();
    for key in keys {
        let key =
            key.unicode().map_err(|_| Problem::new("expected a storage's name, found something else"))?;
        let size = element_size.get(key.as_str()).ok_or_else(|| {
            Problem::new(format!("storage {key}: expected a tensor that uses it, found none"))
        })?;
        let n = take(&mut rest, 8)?.try_into().map(u64::from_le_bytes).expect("eight bytes");
        let n_bytes = usize::try_from(n).ok().and_then(|n| n.checked_mul(*size)).unwrap_or(usize::MAX);
        storages.insert(key, take(&mut rest, n_bytes)?);
    }
    let tensors = infos.iter().map(|info| {
        let storage = storages.get(storage_key(info)).copied().unwrap_or_default();
        Ok((info.name.clone(), tensor(info, storage)?))
    });
    tensors.collect()
}

/// The next pickle of a stream, as data.
fn next_pickle(bytes: &mut &[u8]) -> Result<Object, Problem> {
    let mut stack = Stack::empty();
    stack.read_loop(bytes)?;
    Ok(stack.finalize()?)
}

/// Places of the tensors in a state dict, or in one inside a dictionary.
fn tensor_infos(object: Object) -> Result<Vec<TensorInfo>, Problem> {
    let Object::Dict(mut entries) = object else { return Ok(Vec::new()) };
    let nested = entries.iter().position(
        |(k, v)| matches!((k, v), (Object::Unicode(k), Object::Dict(_)) if NESTED.contains(&k.as_str())),
    );
    if let Some(i) = nested {
        return tensor_infos(entries.swap_remove(i).1);
    }
    let infos =
        entries.into_iter().filter_map(|(k, v)| modern(v).into_tensor_info(k, Path::new("")).transpose());
    Ok(infos.collect::<candle_core::Result<_>>()?)
}

/// Tensors that PyTorch before 0.4 pickled, by the name of the function that candle knows: it takes the same four
/// arguments first.
fn modern(object: Object) -> Object {
    match object {
        Object::Class { module_name, class_name } if class_name == "_rebuild_tensor" => {
            Object::Class { module_name, class_name: "_rebuild_tensor_v2".to_owned() }
        }
        // Inside a parameter, the tensor is an argument.
        Object::Reduce { callable, args } => {
            Object::Reduce { callable: Box::new(modern(*callable)), args: Box::new(modern(*args)) }
        }
        Object::Tuple(items) => Object::Tuple(items.into_iter().map(modern).collect()),
        other => other,
    }
}

/// Candle puts the storage's key behind the folder of a zip archive, which is empty here.
fn storage_key(info: &TensorInfo) -> &str {
    info.path.trim_start_matches('/')
}

fn tensor(info: &TensorInfo, storage: &[u8]) -> Result<Tensor, Problem> {
    let TensorInfo { name, dtype, layout, .. } = info;
    if !layout.is_contiguous() {
        return Err(Problem::new(format!(
            "{name}: expected a contiguous tensor, found strides {:?}",
            layout.stride()
        )));
    }
    // Candle gives the offset in bytes.
    let start = layout.start_offset();
    let end = start.saturating_add(layout.shape().elem_count() * dtype.size_in_bytes());
    let data = storage.get(start..end).ok_or_else(|| {
        Problem::new(format!("{name}: expected {end} bytes of storage, found {}", storage.len()))
    })?;
    Ok(Tensor::from_raw_buffer(data, *dtype, layout.dims(), &Device::Cpu)?)
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Result<&'a [u8], Problem> {
    let (taken, rest) = bytes.split_at_checked(n).ok_or_else(|| {
        Problem::new(format!("the file ends early: expected {n} more bytes, found {}", bytes.len()))
    })?;
    *bytes = rest;
    Ok(taken)
}
