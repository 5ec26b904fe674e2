//! Files as `torch.save` writes them, and as it would not.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A tensor to be saved, with whatever its description shall say.
#[derive(Clone)]
pub struct Tensor {
    pub name: &'static str,
    pub class: &'static str,
    pub numbers: i64,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
    pub data: Vec<u8>,
}

impl Tensor {
    /// Contiguous floats.
    pub fn floats(name: &'static str, shape: &[i64], data: &[f32]) -> Self {
        let data: Vec<u8> = data.iter().flat_map(|number| number.to_le_bytes()).collect();
        Self::new(name, "FloatStorage", shape, data, 4)
    }

    /// Contiguous integers.
    pub fn ints(name: &'static str, shape: &[i64], data: &[i64]) -> Self {
        let data: Vec<u8> = data.iter().flat_map(|number| number.to_le_bytes()).collect();
        Self::new(name, "LongStorage", shape, data, 8)
    }

    pub fn new(name: &'static str, class: &'static str, shape: &[i64], data: Vec<u8>, size: usize) -> Self {
        let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
        Self { name, class, numbers: (data.len() / size) as i64, offset: 0, shape: shape.to_vec(), strides, data }
    }
}

pub fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

pub fn int(number: i64) -> Vec<u8> {
    [b"\x8a\x08".as_slice(), &number.to_le_bytes()].concat()
}

fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(".as_slice(), &items.concat(), b"t"].concat()
}

fn ints(numbers: &[i64]) -> Vec<u8> {
    tuple(&numbers.iter().map(|&number| int(number)).collect::<Vec<_>>())
}

/// The description of a tensor in storage `key`.
pub fn description(tensor: &Tensor, key: &str) -> Vec<u8> {
    let class = format!("ctorch\n{}\n", tensor.class).into_bytes();
    let storage = tuple(&[text("storage"), class, text(key), text("cpu"), int(tensor.numbers)]);
    let arguments = tuple(&[
        [storage, b"Q".to_vec()].concat(),
        int(tensor.offset),
        ints(&tensor.shape),
        ints(&tensor.strides),
        b"\x89".to_vec(),
        b"ccollections\nOrderedDict\n)R".to_vec(),
    ]);
    [b"ctorch._utils\n_rebuild_tensor_v2\n".as_slice(), &arguments, b"R"].concat()
}

/// The pickle of a dict.
pub fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().flat_map(|(name, value)| [text(name), value.clone()].concat()).collect();
    [b"\x80\x02}(".as_slice(), &items, b"u."].concat()
}

/// An archive whose entries lie as they are.
pub fn archive(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let check = crc32fast::hash(data);
        let common = |head: &[u8]| {
            let sizes = [check, data.len() as u32, data.len() as u32].map(u32::to_le_bytes).concat();
            [head, &[0; 8], &sizes, &(name.len() as u16).to_le_bytes(), &[0; 2]].concat()
        };
        let at = (file.len() as u32).to_le_bytes();
        directory.extend([&common(b"PK\x01\x02\0\0\0\0")[..], &[0; 10], &at, name.as_bytes()].concat());
        file.extend([&common(b"PK\x03\x04\0\0"), name.as_bytes(), data].concat());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let places = [directory.len() as u32, file.len() as u32].map(u32::to_le_bytes).concat();
    [file, directory, [b"PK\x05\x06\0\0\0\0".as_slice(), &count, &count, &places, &[0; 2]].concat()].concat()
}

/// The bytes of a file with this pickle and these storages.
pub fn saved(pickle: &[u8], storages: &[Vec<u8>]) -> Vec<u8> {
    let mut entries = vec![("saved/data.pkl".to_owned(), pickle.to_vec())];
    entries.extend(storages.iter().enumerate().map(|(key, data)| (format!("saved/data/{key}"), data.clone())));
    archive(&entries)
}

/// The bytes of a dict of tensors.
pub fn tensors(tensors: &[Tensor]) -> Vec<u8> {
    let storages: Vec<Vec<u8>> = tensors.iter().map(|tensor| tensor.data.clone()).collect();
    saved(&pickle_of(tensors), &storages)
}

fn pickle_of(tensors: &[Tensor]) -> Vec<u8> {
    let items = tensors.iter().enumerate();
    let items: Vec<_> = items.map(|(key, tensor)| (tensor.name, description(tensor, &key.to_string()))).collect();
    dict(&items)
}

/// Writes a dict of tensors; the first one's storage comes last, and has a hole of `hole` bytes before `data`, so that sizes and
/// places are beyond 32 bits and stand in extra fields.
pub fn with_a_hole(path: &Path, tensors: &[Tensor], hole: u64, data: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut directory = Vec::new();
    let rest =
        tensors.iter().enumerate().skip(1).map(|(key, tensor)| (format!("s/data/{key}"), 0, tensor.data.clone()));
    let last = [("s/data/0".to_owned(), hole, data.to_vec()), ("s/version".to_owned(), 0, b"3".to_vec())];
    let entries = [("s/data.pkl".to_owned(), 0, pickle_of(tensors))].into_iter().chain(rest).chain(last);
    for (name, hole, data) in entries {
        let (at, length) = (file.stream_position()?, (name.len() as u16).to_le_bytes());
        file.write_all(&[b"PK\x03\x04".as_slice(), &[0; 22], &length, &[0; 2], name.as_bytes()].concat())?;
        file.seek(SeekFrom::Current(hole as i64))?;
        file.write_all(&data)?;
        let size = hole + data.len() as u64;
        // An extra field of another kind comes first.
        let extra =
            [b"\x07\x00\x02\x00xx\x01\x00\x18\x00".as_slice(), &[size, size, at].map(u64::to_le_bytes).concat()];
        let extra = extra.concat();
        let (sizes, extra_length) = ([0xff; 8], (extra.len() as u16).to_le_bytes());
        directory.extend(
            [b"PK\x01\x02".as_slice(), &[0; 16], &sizes, &length, &extra_length, &[0; 10], &[0xff; 4]].concat(),
        );
        directory.extend([name.as_bytes(), &extra].concat());
    }
    let at = file.stream_position()?;
    let count = 3 + (tensors.len() - 1) as u64;
    let end = [count, count, directory.len() as u64, at].map(u64::to_le_bytes).concat();
    let end = [b"PK\x06\x06".as_slice(), &44u64.to_le_bytes(), &[0; 12], &end].concat();
    let locator = [b"PK\x06\x07\0\0\0\0".as_slice(), &(at + directory.len() as u64).to_le_bytes(), &[0; 4]].concat();
    file.write_all(
        &[directory, end, locator, [b"PK\x05\x06\0\0\0\0".as_slice(), &[0xff; 12], &[0; 2]].concat()].concat(),
    )
}

/// Writes a file.
pub fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a small file");
    path
}

/// `episodes` episodes of `entries` entries, with two components of observations and one of actions: as `[obs, action, reward,
/// task]`. Observation `t` of episode `e` is `(10 e + t, 0)`, what led there was action `-t` and reward `t / 2`, and the task is `e % 3`.
pub fn counter(episodes: usize, entries: usize) -> [Tensor; 4] {
    let all = || (0..episodes).flat_map(|e| (0..entries).map(move |t| (e, t)));
    let led = |t: usize, value: f32| if t == 0 { f32::NAN } else { value };
    let obs: Vec<f32> = all().flat_map(|(e, t)| [(10 * e + t) as f32, 0.0]).collect();
    let action: Vec<f32> = all().map(|(_, t)| led(t, -(t as f32))).collect();
    let reward: Vec<f32> = all().map(|(_, t)| led(t, t as f32 / 2.0)).collect();
    let task: Vec<i64> = all().map(|(e, _)| e as i64 % 3).collect();
    let [e, t] = [episodes as i64, entries as i64];
    [
        Tensor::floats("obs", &[e, t, 2], &obs),
        Tensor::floats("action", &[e, t, 1], &action),
        Tensor::floats("reward", &[e, t], &reward),
        Tensor::ints("task", &[e, t], &task),
    ]
}
