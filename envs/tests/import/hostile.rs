//! Files that are damaged, or mean harm: refused with a reason, without a panic, without a wait and with little memory.

use std::path::Path;

use envs::import::ImportError;
use envs::import::pickle::{Pickle, PickleError};
use proptest::prelude::*;

use crate::torch_save::{Tensor, archive, counter, description, dict, file, int, saved, tensors, text};
use crate::{NEW, OLD, fixture, open, read_all};

#[test]
fn a_file_cut_at_any_length_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for name in [OLD, NEW] {
        let whole = std::fs::read(fixture(name)).unwrap();
        for length in 0..whole.len() {
            let error = read_all(&file(dir.path(), "cut.pt", &whole[..length])).err().expect("it is not whole");
            assert!(error.contains("cut.pt") && error.contains("does not end as a zip archive"), "{length}: {error}");
        }
    }
}

#[test]
fn a_damaged_byte_is_never_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixture(NEW)).unwrap();
    for at in 0..whole.len() {
        for bits in [0x01, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= bits;
            if let Err(error) = read_all(&file(dir.path(), "damaged.pt", &damaged)) {
                assert!(error.contains("damaged.pt"), "byte {at}: {error}");
            }
        }
    }
}

#[test]
fn what_a_pickle_asks_for_is_never_run() {
    let dir = tempfile::tempdir().unwrap();
    let canary = dir.path().join("canary");
    let command = format!("touch {}", canary.display());
    for global in [
        "os system",
        "posix system",
        "builtins eval",
        "builtins exec",
        "__builtin__ getattr",
        "torch load",
        "torch.hub load",
        "torch _utils",
        "torch._utils _rebuild_parameter",
        "collections Counter",
        "tensordict._td LazyStackedTensorDict",
        "numpy.core.multiarray _reconstruct",
        "subprocess Popen",
        "torch.storage _load_from_bytes",
        "torch FloatTensor",
    ] {
        let (module, name) = global.split_once(' ').unwrap();
        let call = [format!("c{module}\n{name}\n(").into_bytes(), text(&command), b"tR".to_vec()].concat();
        let path = file(dir.path(), "gadget.pt", &saved(&dict(&[("obs", call)]), &[]));
        let error = open(&[path]).err().unwrap();
        assert!(
            matches!(&error, ImportError::Pickle { source: PickleError::Global { global }, .. } if *global == format!("{module}.{name}")),
            "{error}"
        );
        assert!(error.to_string().contains("gadget.pt"));
    }
    assert!(!canary.exists());
    // A name cannot drive the terminal, nor fill it.
    let long = [b"\x80\x02cos\n\x1b[31m".as_slice(), &[b'a'; 5000], b"\n."].concat();
    let Err(PickleError::Global { global }) = Pickle::parse(&long) else { panic!("it is refused") };
    assert!(global.starts_with("os.\\u{1b}[31maaa") && global.len() < 120, "{global}");
}

/// What is said of a pickle.
fn said(pickle: &[u8]) -> String {
    match Pickle::parse(pickle).map(|pickle| pickle.items().err().map(str::to_owned)) {
        Ok(Some(reason)) => reason,
        Ok(None) => "nothing".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_pickle_that_is_none_is_refused_where_it_goes_wrong() {
    let cases: [(&[u8], &str); 26] = [
        (b"", "byte 0: it ends in the middle"),
        (b"\x80\x02", "byte 2: it ends in the middle"),
        (b"\x80\x04.", "byte 0: protocol 4; torch.save writes protocol 2"),
        (b".", "byte 0: it takes a value that is not there"),
        (b"N.", "it holds neither a dict nor a TensorDict"),
        (b"}.N", "byte 1: it ends, and something is left over"),
        (b"}}.", "byte 2: it ends, and something is left over"),
        (b"(}.", "byte 2: it ends, and something is left over"),
        (b"X\xff\xff\xff\xff.", "byte 0: it ends in the middle"),
        (b"X\x01\0\0\0\xff.", "byte 0: a text that is not UTF-8"),
        (b"\x8a\xff.", "byte 0: an integer of 255 bytes"),
        (b"t.", "byte 0: it takes the values since a mark that is not there"),
        (b"N(\x85.", "byte 2: it takes a value that is not there"),
        (b"h\x00.", "byte 0: it recalls value 0, which it has not remembered"),
        (b"q\x00.", "byte 0: it remembers a value that is not there"),
        (b"](NNu.", "byte 4: it sets items of what is no dict"),
        (b"}(Nu.", "byte 3: it sets items of what is no dict"),
        (b"}Na.", "byte 2: it appends to what is no list"),
        (b"ctorch", "byte 0: it ends in the middle of a name"),
        (b"N)R.", "byte 2: it calls what cannot be called"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "byte 34: a call with arguments that torch does not write"),
        (b"ctorch\nFloatStorage\n)\x81.", "byte 21: an object of a class that cannot be made so"),
        (b"}}b.", "byte 2: it gives attributes to what has none"),
        (b")Q.", "byte 1: a storage that torch does not write"),
        (b"ctensordict._td\nTensorDict\n)\x81.", "it holds neither a dict nor a TensorDict"),
        (b"ctensordict._td\nTensorDict\n)\x81}b.", "its TensorDict has no `_tensordict`"),
    ];
    for (pickle, expected) in cases {
        assert_eq!(said(pickle), expected, "{pickle:?}");
    }
    // Instructions that tensors do not need: an instance, a name from the stack, extensions, frames.
    for instruction in [b'i', b'o', 0x93, 0x82, 0x95, b'0', b'2', b'P', b'S', 0xff] {
        assert_eq!(said(&[instruction]), format!("byte 0: instruction {instruction:#04x}, which tensors do not need"));
    }
}

#[test]
fn what_a_pickle_repeats_takes_no_more_memory_than_its_bytes() {
    // A dict in itself, a hundred thousand marks, and lists of lists: all of it is indices.
    assert_eq!(said(b"}q\x00(X\x01\0\0\0ah\x00u."), "nothing");
    let marks = [vec![b'('; 100_000], b"N.".to_vec()].concat();
    assert!(said(&marks).contains("left over"));
    let doubled = [b"]q\x00".to_vec(), b"(h\x00h\x00lq\x00".repeat(40)].concat();
    assert!(said(&doubled).contains("instruction"));
    let doubled = [b")q\x00".to_vec(), b"(h\x00h\x00tq\x00".repeat(1000), b".".to_vec()].concat();
    assert!(said(&doubled).contains("left over"));
    // The name of a storage and the axes of a tensor are copied, so neither may be long.
    let mut tensor = Tensor::floats("obs", &[1], &[0.0]);
    assert!(
        said(&dict(&[("obs", description(&tensor, &"0".repeat(33)))])).contains("a storage that torch does not write")
    );
    (tensor.shape, tensor.strides) = (vec![1; 9], vec![1; 9]);
    assert!(said(&dict(&[("obs", description(&tensor, "0"))])).contains("a call with arguments"));
}

/// What is said of the counter, of which one thing is changed.
fn said_of(change: impl FnOnce(&mut [Tensor; 4])) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut saved = counter(2, 4);
    change(&mut saved);
    read_all(&file(dir.path(), "bad.pt", &tensors(&saved))).err().unwrap()
}

#[test]
fn sizes_that_the_file_does_not_have_are_refused() {
    let cases: [(&str, String); 9] = [
        (
            "`obs` says that its storage has 17 numbers of 4 bytes; the file has 64 bytes",
            said_of(|saved| saved[0].numbers = 17),
        ),
        ("numbers of 4 bytes; the file has 64", said_of(|saved| saved[0].numbers = i64::MAX)),
        ("a storage that torch does not write", said_of(|saved| saved[0].numbers = -1)),
        ("from number 1 on, and its storage ends after 16", said_of(|saved| saved[0].offset = 1)),
        ("its storage ends after 16", said_of(|saved| saved[0].offset = i64::MAX)),
        ("its storage ends after 16", said_of(|saved| saved[0].shape[0] = i64::MAX)),
        ("its storage ends after 16", said_of(|saved| saved[0].strides[0] = i64::MAX)),
        ("a call with arguments", said_of(|saved| saved[0].strides[1] = -1)),
        (
            "the same numbers for several episodes",
            said_of(|saved| {
                for tensor in saved {
                    (tensor.shape[0], tensor.strides[0]) = (1 << 60, 0);
                }
            }),
        ),
    ];
    for (expected, said) in cases {
        assert!(said.contains("bad.pt") && said.contains(expected), "{expected}: {said}");
    }
    let wide = said_of(|saved| {
        for tensor in saved {
            (tensor.shape, tensor.strides) = (vec![1, 1 << 20, 8], vec![0, 0, 1]);
            tensor.shape.truncate(if tensor.name == "obs" || tensor.name == "action" { 3 } else { 2 });
            tensor.strides.truncate(tensor.shape.len());
        }
    });
    assert!(wide.contains("its storage ends after 8") || wide.contains("the same numbers"), "{wide}");
}

#[test]
fn an_episode_too_large_is_refused_before_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut saved = counter(1, 2);
    let entries = 1 << 20;
    for tensor in &mut saved {
        tensor.shape[1] = entries;
        let width = tensor.shape.get(2).copied().unwrap_or(1);
        tensor.numbers = entries * width;
        tensor.data = vec![0; (tensor.numbers * if tensor.name == "task" { 8 } else { 4 }) as usize];
    }
    let error = read_all(&file(dir.path(), "long.pt", &tensors(&saved))).err().unwrap();
    assert!(
        error.contains("`obs` has episodes of 41943040 bytes with their actions; at most 16777216 are read"),
        "{error}"
    );
}

#[test]
fn an_archive_that_torch_does_not_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let said = |bytes: &[u8]| open(&[file(dir.path(), "bad.pt", bytes)]).err().unwrap().to_string();
    let good = tensors(&counter(2, 4));
    assert_eq!(open(&[file(dir.path(), "good.pt", &good)]).unwrap().episodes(), 2);
    assert!(said(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.").contains("before 1.6"));
    assert!(said(&archive(&[])).contains("without the one `data.pkl`"));
    let one = ("a/data.pkl".to_owned(), dict(&[]));
    assert!(
        said(&archive(&[one.clone(), ("b/data.pkl".to_owned(), dict(&[]))])).contains("without the one `data.pkl`")
    );
    assert!(said(&archive(&[one.clone(), one.clone()])).contains("there are two entries `a/data.pkl`"));
    assert!(said(&archive(&[one.clone(), ("a/byteorder".to_owned(), b"big".to_vec())])).contains("not little-endian"));
    assert!(said(&archive(&[("a/data.pkl".to_owned(), vec![b'N'; 2 << 20])])).contains("at most 1048576 are read"));
    let missing = dict(&[("obs", description(&counter(1, 2)[0], "../../secret"))]);
    assert!(said(&saved(&missing, &[])).contains("`saved/data/../../secret` is missing"));
    // Fields of the directory entry of data.pkl, the first: flags, method, size, place of its header.
    let at = good.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    for (field, value, expected) in [
        (8, 1u32, "is packed or encrypted"),
        (10, 8, "is packed or encrypted"),
        (24, 5, "is packed or encrypted"),
        (24, u32::MAX, "its directory is damaged"),
        (42, 3, "does not begin where the directory says"),
        (42, u32::MAX - 1, "does not lie before the directory"),
    ] {
        let mut bad = good.clone();
        let width = if field < 16 { 2 } else { 4 };
        bad[at + field..at + field + width].copy_from_slice(&value.to_le_bytes()[..width]);
        let said = said(&bad);
        assert!(said.contains("bad.pt") && said.contains(expected), "{field}: {said}");
    }
    // Fields of the end: entries, bytes of the directory, where it begins.
    for (field, value) in [(10, 6u32), (10, 0xffff), (12, u32::MAX), (12, 1), (16, u32::MAX), (16, 0)] {
        let mut bad = good.clone();
        let at = good.len() - 22 + field;
        let width = if field == 10 { 2 } else { 4 };
        bad[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        assert!(said(&bad).contains("bad.pt: "), "{field}");
    }
    assert!(open(&[dir.path().to_owned()]).err().unwrap().to_string().contains("cannot open"));
    assert!(open(&[dir.path().join("none.pt")]).err().unwrap().to_string().contains("none.pt"));
}

/// Of a whole file in words, so that no word of it is long or unusual.
fn words() -> impl Strategy<Value = Vec<u8>> {
    let tensor = description(&counter(1, 2)[0], "0");
    let single = b"(t}])usaeRbQN\x81\x86".iter().map(|&instruction| vec![instruction]);
    let globals =
        ["torch\nSize", "tensordict._td\nTensorDict", "tensordict._reductions\n_make_td", "collections\nOrderedDict"];
    let words: Vec<Vec<u8>> = single
        .chain(globals.map(|global| format!("c{global}\n").into_bytes()))
        .chain([b"q\x00", b"q\x01", b"h\x00", b"h\x01"].map(|word| word.to_vec()))
        .chain([text("obs"), text("_tensordict"), int(3), int(i64::MIN), tensor])
        .collect();
    proptest::collection::vec(proptest::sample::select(words), 0..40)
        .prop_map(|words| [words.concat(), b".".to_vec()].concat())
}

fn read_quietly(dir: &Path, bytes: &[u8]) {
    let _ = read_all(&file(dir, "any.pt", bytes));
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), program in words()) {
        let dir = tempfile::tempdir().unwrap();
        read_quietly(dir.path(), &bytes);
        read_quietly(dir.path(), &saved(&bytes, &[]));
        read_quietly(dir.path(), &saved(&program, &[vec![0; 64]]));
    }

    #[test]
    fn no_description_is_a_panic(
        which in 0usize..4, field in 0usize..4, axis in 0usize..2,
        value in prop_oneof![Just(0), Just(1), -3i64..70, Just(i64::MAX), Just(i64::MAX / 4), Just(1 << 32)],
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut saved = counter(2, 4);
        let tensor = &mut saved[which];
        *match field {
            0 => &mut tensor.numbers,
            1 => &mut tensor.offset,
            2 => &mut tensor.shape[axis],
            _ => &mut tensor.strides[axis],
        } = value;
        read_quietly(dir.path(), &tensors(&saved));
    }
}
