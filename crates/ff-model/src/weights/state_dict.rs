//! PyTorch state dicts, as `torch.save(model.state_dict(), path)` writes them: the zip archive of PyTorch 1.6 and
//! later, and the older stream of pickles that FairFace's released files and many of torchvision's are.
//!
//! No code from a file is ever run: see [`pickle`](super::pickle). A dictionary that holds the state dict under a usual
//! name (`state_dict`, `model`, ...) is looked into.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::archive::{self, MAGIC as ZIP};
use super::pickle::{Id, Object, Pickle};

/// How the older format begins: `torch.serialization.MAGIC_NUMBER`, pickled.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// Where training scripts put the state dict.
const NESTED: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];
/// Dictionaries in dictionaries, and parameters in parameters, that are looked into. Real files have two.
const MAX_DEPTH: usize = 8;

/// Whether a file begins as `torch.save` begins one.
pub(super) fn is_state_dict(bytes: &[u8]) -> bool {
    bytes.starts_with(ZIP) || bytes.starts_with(LEGACY)
}

/// The tensors of the state dict in a file's bytes.
///
/// # Errors
/// Damaged, no state dict, or tensors of a type or layout that are not read.
pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let tensors = if bytes.starts_with(ZIP) { read_zip(bytes)? } else { read_legacy(bytes)? };
    if tensors.is_empty() {
        return Err(
            "expected a state dict, found no tensors by name; save model.state_dict() instead of the \
                    model"
                .to_owned(),
        );
    }
    Ok(tensors)
}

/// `NAME/data.pkl` is the pickle, `NAME/data/KEY` are the storages.
fn read_zip(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let entries = archive::entries(bytes)?;
    let pickled = entries.iter().find_map(|(name, entry)| Some((name.strip_suffix("data.pkl")?, entry)));
    let (folder, pickled) = pickled.ok_or("expected a file data.pkl in the archive, found none")?;
    if let Some(order) = entries.get(format!("{folder}byteorder").as_str())
        && order.read("byteorder")?.trim_ascii() != b"little"
    {
        return Err("byteorder: expected little, found another".to_owned());
    }
    let pickle = Pickle::read(&mut pickled.read("data.pkl")?)?;
    let mut storages = BTreeMap::new();
    let places = places(&pickle)?;
    for storage in places.iter().map(|place| &place.storage) {
        if !storages.contains_key(storage.key) {
            let name = format!("{folder}data/{}", storage.key);
            let entry =
                entries.get(name.as_str()).ok_or_else(|| format!("{name}: missing in the archive"))?;
            storages.insert(storage.key, entry.read(&name)?);
        }
    }
    read_tensors(&places, &storages, bytes.len())
}

/// Magic number, protocol and system as pickles; the state dict; the storages' keys; then each storage as its length
/// in elements (i64) and its bytes. All little-endian.
fn read_legacy(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let mut rest = &bytes[LEGACY.len()..];
    let _protocol = Pickle::read(&mut rest)?;
    let _system = Pickle::read(&mut rest)?;
    let pickle = Pickle::read(&mut rest)?;
    let keys = Pickle::read(&mut rest)?;
    let Object::List(listed) = keys.root() else {
        return Err("expected a list of storages, found something else".to_owned());
    };
    // Storages of tensors that are not asked for lie between the others, so all are looked at.
    let known = pickle.objects().iter().filter_map(|object| match object {
        Object::Persistent(id) => Storage::new(&pickle, *id).ok(),
        _ => None,
    });
    let known: BTreeMap<&str, Storage> = known.map(|storage| (storage.key, storage)).collect();
    let mut storages = BTreeMap::new();
    for &key in listed {
        let key = keys.text(key).ok_or("expected a storage's name, found something else")?;
        let storage = known
            .get(key)
            .ok_or_else(|| format!("storage {key}: expected a tensor that uses it, found none"))?;
        let n = take(&mut rest, 8)?.try_into().map(u64::from_le_bytes).expect("eight bytes");
        let n_bytes = usize::try_from(n).ok().and_then(|n| n.checked_mul(storage.element_size()?));
        storages.insert(key, take(&mut rest, n_bytes.unwrap_or(usize::MAX))?);
    }
    read_tensors(&places(&pickle)?, &storages, bytes.len())
}

fn read_tensors(
    places: &[StoragePlace],
    storages: &BTreeMap<&str, &[u8]>,
    file_len: usize,
) -> Result<BTreeMap<String, Tensor>, String> {
    // Tensors may share a storage, and would make a small file grow without end.
    let mut room = file_len;
    let mut tensors = BTreeMap::new();
    for place in places {
        let storage = storages.get(place.storage.key).copied().unwrap_or_default();
        let (dtype, data) = place.data(storage).map_err(|problem| format!("{}: {problem}", place.name))?;
        room = room.checked_sub(data.len()).ok_or_else(|| {
            format!("expected tensors of the file's {file_len} bytes together, found more at {}", place.name)
        })?;
        let tensor = Tensor::from_raw_buffer(data, dtype, &place.shape, &Device::Cpu);
        tensors.insert(place.name.to_owned(), tensor.map_err(|e| format!("{}: {e}", place.name))?);
    }
    Ok(tensors)
}

/// Where a tensor lies.
struct StoragePlace<'a> {
    name: &'a str,
    storage: Storage<'a>,
    /// The first element in the storage.
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl StoragePlace<'_> {
    /// Its type, and its part of the storage.
    fn data<'s>(&self, storage: &'s [u8]) -> Result<(DType, &'s [u8]), String> {
        let Self { shape, strides, .. } = self;
        let dtype = self.storage.dtype()?;
        let too_large = || format!("expected {} bytes of storage, found shape {shape:?}", storage.len());
        let n_elements = shape.iter().try_fold(1usize, |n, &dim| n.checked_mul(dim)).ok_or_else(too_large)?;
        // The stride of a dimension of one element says nothing.
        let mut step = 1usize;
        let contiguous = shape.iter().zip(strides).rev().all(|(&dim, &stride)| {
            let expected = step;
            step = step.saturating_mul(dim);
            dim == 1 || stride == expected
        });
        if shape.len() != strides.len() || !(contiguous || n_elements == 0) {
            return Err(format!(
                "expected a contiguous tensor of shape {shape:?}, found strides {strides:?}"
            ));
        }
        let bytes = |n: usize| n.checked_mul(dtype.size_in_bytes()).ok_or_else(too_large);
        let (begin, len) = (bytes(self.offset)?, bytes(n_elements)?);
        let data = storage.get(begin..).and_then(|rest| rest.get(..len));
        let message = || {
            let end = begin.saturating_add(len);
            format!("expected {end} bytes of storage, found {}", storage.len())
        };
        data.map(|data| (dtype, data)).ok_or_else(message)
    }
}

/// What a pickle says of a storage.
#[derive(Debug, Clone, Copy)]
struct Storage<'a> {
    key: &'a str,
    class: &'a str,
}

impl<'a> Storage<'a> {
    /// From `("storage", class, key, location, length)`; the older format adds a part of another storage, or None.
    fn new(pickle: &Pickle<'a>, id: Id) -> Result<Self, String> {
        let bad = || "expected a storage, found something else".to_owned();
        let (&[_, class, key, ..], fields) = (|| {
            let fields = pickle.tuple(id)?;
            Some((fields.first_chunk::<3>()?, fields))
        })()
        .ok_or_else(bad)?;
        let (Object::Global { name: class, .. }, Some(key)) = (pickle.get(class), pickle.text(key)) else {
            return Err(bad());
        };
        if fields.get(5).is_some_and(|&view| *pickle.get(view) != Object::Other) {
            return Err(format!("storage {key}: expected one of its own, found a part of another"));
        }
        Ok(Self { key, class })
    }

    fn dtype(&self) -> Result<DType, String> {
        Ok(match self.class {
            "FloatStorage" => DType::F32,
            "DoubleStorage" => DType::F64,
            "HalfStorage" => DType::F16,
            "BFloat16Storage" => DType::BF16,
            "ByteStorage" => DType::U8,
            "ShortStorage" => DType::I16,
            "IntStorage" => DType::I32,
            "LongStorage" => DType::I64,
            other => return Err(format!("expected a storage of floats or integers, found {other}")),
        })
    }

    /// Bytes an element, of types whose tensors are not read too.
    fn element_size(&self) -> Option<usize> {
        match self.class {
            "BoolStorage" | "CharStorage" => Some(1),
            _ => self.dtype().ok().map(|dtype| dtype.size_in_bytes()),
        }
    }
}

/// Places of the tensors in a state dict, or in one inside a dictionary.
fn places<'a>(pickle: &Pickle<'a>) -> Result<Vec<StoragePlace<'a>>, String> {
    let mut object = pickle.root();
    for _ in 0..MAX_DEPTH {
        let Object::Dict(entries) = object else { break };
        let nested = entries.iter().find(|(key, value)| {
            pickle.text(*key).is_some_and(|key| NESTED.contains(&key))
                && matches!(pickle.get(*value), Object::Dict(_))
        });
        let Some((_, value)) = nested else { break };
        object = pickle.get(*value);
    }
    let Object::Dict(entries) = object else { return Ok(Vec::new()) };
    let named = entries.iter().filter_map(|&(key, value)| Some((pickle.text(key)?, value)));
    let places = named.filter_map(|(name, value)| {
        let args = tensor_args(pickle, value)?;
        Some(place(pickle, name, args).map_err(|problem| format!("{name}: {problem}")))
    });
    places.collect()
}

/// The arguments of the function that makes a tensor: storage, offset, shape, strides, and more that says nothing
/// here. `None` for what is no tensor.
fn tensor_args<'p>(pickle: &'p Pickle<'_>, mut id: Id) -> Option<&'p [Id]> {
    for _ in 0..MAX_DEPTH {
        let Object::Call { callable, args } = *pickle.get(id) else { return None };
        let args = pickle.tuple(args)?;
        let Object::Global { module, name } = *pickle.get(callable) else { return None };
        match (module, name) {
            // The second without "_v2" is how PyTorch before 0.4 did it.
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => return Some(args),
            // Inside a parameter, the tensor is an argument.
            ("torch._utils", "_rebuild_parameter") => id = *args.first()?,
            // A class of its own: the function, the class, the function's arguments.
            ("torch._tensor", "_rebuild_from_type_v2") => return pickle.tuple(*args.get(2)?),
            _ => return None,
        }
    }
    None
}

fn place<'a>(pickle: &Pickle<'a>, name: &'a str, args: &[Id]) -> Result<StoragePlace<'a>, String> {
    let bad = |what: &str| format!("expected {what}, found something else");
    let &[storage, offset, shape, strides, ..] = args else {
        return Err(format!("expected four arguments of a tensor, found {}", args.len()));
    };
    let Object::Persistent(storage) = *pickle.get(storage) else { return Err(bad("a storage")) };
    let sizes = |id| pickle.tuple(id)?.iter().map(|&id| pickle.size(id)).collect::<Option<Vec<_>>>();
    Ok(StoragePlace {
        name,
        storage: Storage::new(pickle, storage)?,
        offset: pickle.size(offset).ok_or_else(|| bad("an offset"))?,
        shape: sizes(shape).ok_or_else(|| bad("a shape"))?,
        strides: sizes(strides).ok_or_else(|| bad("strides"))?,
    })
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> Result<&'a [u8], String> {
    let (taken, rest) = bytes
        .split_at_checked(n)
        .ok_or_else(|| format!("the file ends early: expected {n} more bytes, found {}", bytes.len()))?;
    *bytes = rest;
    Ok(taken)
}
