//! Files built to run code, to exhaust memory or to read outside their bounds.

use crate::archive::{Entry, archive, convert, read, sound, tensor, with_x, zip};
use comfy_pickle::Error;
use std::time::{Duration, Instant};

/// Expects an error that mentions `what`, soon.
fn refuse(bytes: &[u8], what: &str) {
    let started = Instant::now();
    let error = convert(bytes).expect_err(what).to_string();
    assert!(error.contains(what), "expected `{what}` in: {error}");
    assert!(started.elapsed() < Duration::from_secs(20), "{what} took {:?}", started.elapsed());
}

fn refuse_pickle(pickle: &[u8], what: &str) {
    refuse(&archive(pickle), what);
}

const LEGACY_HEAD: &[u8] =
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}X\x0d\0\0\0little_endian\x88s.";

#[test]
fn code_is_refused_by_name() {
    for (pickle, name) in [
        (&b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R."[..], "os.system"),
        (b"cposix\nsystem\n(S'id'\ntR.", "posix.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x01x\x85R.", "builtins.eval"),
        (b"(S'id'\nios\nsystem\n.", "os.system"),
        (b"\x80\x02(csubprocess\nPopen\nX\x02\0\0\0ido.", "subprocess.Popen"),
        (b"\x80\x02c__builtin__\ngetattr\n.", "__builtin__.getattr"),
        (b"\x80\x02ctorch.hub\nload\n.", "torch.hub.load"),
        (b"\x80\x02ctorch\nload\n.", "torch.load"),
        (b"\x80\x02cos.path\nsplitext\n.", "os.path.splitext"),
    ] {
        refuse_pickle(pickle, &format!("`{name}`"));
        // In a name's place, in a value's place, and in a legacy file.
        refuse_pickle(&with_x(&pickle[if pickle[0] == 0x80 { 2 } else { 0 }..]), &format!("`{name}`"));
        refuse(&[LEGACY_HEAD, pickle].concat(), &format!("`{name}`"));
    }
    // Registered extensions and shared buffers do not occur in files.
    for opcode in [&b"\x82\x01."[..], b"\x83\x01\0.", b"\x84\x01\0\0\0.", b"\x97.", b"\x98.", b"Px\n."] {
        refuse_pickle(opcode, "is no instruction");
    }
}

#[test]
fn known_names_cannot_be_misused() {
    for pickle in [
        &b"\x80\x02ctorch\nFloatStorage\n)R."[..],
        b"\x80\x02ctorch._utils\n_rebuild_parameter\nN\x85R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._tensor\n_rebuild_from_type_v2\nNNtR.",
        b"\x80\x02K\x01)R.",
        b"\x80\x02X\x01\0\0\0aQ.",
        b"\x80\x02(X\x07\0\0\0storagecpytorch_lightning\nx\nX\x01\0\0\x000NK\x01tQ.",
    ] {
        assert!(matches!(read(&archive(pickle)), Err(Error::Damaged(_))), "{pickle:?}");
    }
}

#[test]
fn sizes_that_the_file_cannot_have_take_no_memory() {
    refuse_pickle(b"\x80\x02\x8b\xff\xff\xff\x7f\0.", "bytes of names and shapes");
    refuse_pickle(b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "bytes in one text");
    refuse_pickle(b"\x80\x04\x8d\0\0\x10\0\0\0\0\0ab.", "ends too early");
    refuse_pickle(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "bytes of names and shapes");
    refuse_pickle(b"\x80\x04\x96\xff\xff\xff\xff\xff\xff\xff\xff.", "bytes of names and shapes");
    refuse_pickle(b"\x80\x02X\xff\xff\xff\xff.", "bytes in one text");
    refuse_pickle(b"\x80\x02T\xff\xff\xff\xff.", "bytes in one text");
    refuse_pickle(&[b"c", &vec![b'a'; 5000][..], b"\nb\n."].concat(), "bytes in one line");
    refuse_pickle(b"\x80\x02}r\xff\xff\xff\xff.", "holds no tensors");
}

#[test]
fn nesting_and_repetition_are_bounded() {
    let nested =
        |open: &[u8], close: &[u8], n| [&b"\x80\x02"[..], &open.repeat(n), &close.repeat(n), b"."].concat();
    refuse_pickle(&nested(b"(", b"t", 5000), "levels of nesting");
    refuse_pickle(&nested(b"](", b"e", 5000), "levels of nesting");
    let dicts = [&b"\x80\x02"[..], &b"}X\x01\0\0\0x".repeat(5000), b"N", &b"s".repeat(5000), b"."].concat();
    refuse_pickle(&dicts, "levels of nesting");
    refuse_pickle(&[&b"\x80\x02)"[..], &b"\x85".repeat(5000), b"."].concat(), "levels of nesting");
    refuse_pickle(&nested(b"(", b"0", 3_000_000), "values on the stack");
    refuse_pickle(&b"N".repeat(3_000_000), "values on the stack");
    refuse_pickle(&b"N0".repeat(5_000_000), "instructions");
    refuse_pickle(&b")".repeat(3_000_000), "objects");
    refuse_pickle(&b")0".repeat(3_000_000), "objects");
    // Every value is kept under another number.
    let puts: Vec<u8> = (0..1_100_000u32).flat_map(|i| [&b"r"[..], &i.to_le_bytes()].concat()).collect();
    refuse_pickle(&[b"N", &puts[..]].concat(), "kept for later");
    // A list that doubles with every call: a billion laughs.
    let doubling = b"h\0h\0\x86q\0".repeat(90);
    refuse_pickle(&[&b"\x80\x02Nq\0"[..], &doubling, b"."].concat(), "not a dictionary");
    let copies = b"ccollections\nOrderedDict\nh\0\x85R0".repeat(200_000);
    let many = [&b"\x80\x02}q\0("[..], &b"K\x01N".repeat(100_000), b"u", &copies, b"."].concat();
    refuse_pickle(&many, "values in containers");
}

#[test]
fn shared_dictionaries_do_not_multiply() {
    // Four levels of dictionaries, each with a hundred entries that are all the next one.
    let mut pickle = b"\x80\x02}q\0X\x01\0\0\0t".to_vec();
    pickle.extend(tensor(b"K\x06", b"K\0", b"K\x06\x85", b"K\x01\x85"));
    pickle.extend(b"s0");
    for level in 1..=4u8 {
        pickle.extend([b"}q", &[level][..], b"("].concat());
        for key in 0..100 {
            pickle.extend(format!("V{key}\n").bytes());
            pickle.extend([b'h', level - 1]);
        }
        pickle.extend(b"u0");
    }
    pickle.extend(b"h\x04.");
    refuse_pickle(&pickle, "dictionary entries");
    // A dictionary that holds itself ends at the deepest level that is listed.
    let own =
        [b"\x80\x02}q\0X\x04\0\0\0selfh\0sX\x01\0\0\0x", &tensor(b"K\x06", b"K\0", b")", b")")[..], b"s."]
            .concat();
    let index = read(&archive(&own)).unwrap();
    assert_eq!(index.tensors.len(), 5, "{:?}", index.tensors.keys());
}

#[test]
fn tensors_stay_within_their_storage() {
    let refuse_tensor = |elements: &[u8], offset: &[u8], size: &[u8], stride: &[u8], what: &str| {
        refuse_pickle(&with_x(&tensor(elements, offset, size, stride)), what);
    };
    let (six, max) = (b"K\x06", b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f");
    refuse_tensor(six, b"K\x01", b"K\x02K\x03\x86", b"K\x03K\x01\x86", "beyond its storage");
    refuse_tensor(six, b"K\0", b"K\x07\x85", b"K\x01\x85", "beyond its storage");
    refuse_tensor(six, b"K\0", b"K\x02K\x03\x86", b"K\x04K\x01\x86", "beyond its storage");
    refuse_tensor(six, b"K\x06", b")", b")", "beyond its storage");
    refuse_tensor(six, b"K\x07", b"K\0\x85", b"K\x01\x85", "beyond its storage");
    refuse_tensor(six, max, b"K\x02\x85", max_tuple(max).as_slice(), "beyond its storage");
    refuse_tensor(six, b"K\0", &[&max[..], max, b"\x86"].concat(), b"K\0K\0\x86", "beyond its storage");
    refuse_tensor(six, b"J\xff\xff\xff\xff", b"K\x06\x85", b"K\x01\x85", "offset is -1");
    refuse_tensor(six, b"K\0", b"J\xff\xff\xff\xff\x85", b"K\x01\x85", "size is -1");
    refuse_tensor(six, b"K\x05", b"K\x06\x85", b"J\xff\xff\xff\xff\x85", "stride is -1");
    refuse_tensor(six, b"K\0", b"K\x06\x85", b"K\x01K\x01\x86", "as many strides");
    refuse_tensor(six, b"K\0", b"(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t", b")", "dimensions");
    refuse_tensor(b"K\x05", b"K\0", b"K\x05\x85", b"K\x01\x85", "has 24 bytes");
    refuse_tensor(b"K\x07", b"K\0", b"K\x06\x85", b"K\x01\x85", "has 24 bytes");
    refuse_tensor(max, b"K\0", b"K\x06\x85", b"K\x01\x85", "has 24 bytes");
    refuse_tensor(b"J\xff\xff\xff\xff", b"K\0", b"K\x06\x85", b"K\x01\x85", "described wrongly");
    // One number repeated a billion times.
    let thousand = b"M\xe8\x03M\xe8\x03M\xe8\x03\x87";
    refuse_tensor(six, b"K\0", thousand, b"K\0K\0K\0\x87", "bytes of tensors for its size");
    let missing = with_x(&tensor(six, b"K\0", b"K\x06\x85", b"K\x01\x85"));
    refuse(&zip(&[Entry::new("a/data.pkl", missing)]), "no storage `0`");
}

fn max_tuple(number: &[u8]) -> Vec<u8> {
    [number, b"\x85"].concat()
}

#[test]
fn archives_must_be_honest() {
    let pickle = with_x(&tensor(b"K\x06", b"K\0", b"K\x06\x85", b"K\x01\x85"));
    let entries = || vec![Entry::new("a/data.pkl", pickle.clone()), Entry::new("a/data/0", [7; 24])];
    let changed = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut all = entries();
        change(&mut all);
        zip(&all)
    };
    assert!(convert(&zip(&entries())).is_ok());
    refuse(&changed(&|e| e[1].method = 8), "compressed");
    refuse(&changed(&|e| e[1].flags = 1), "encrypted");
    refuse(&changed(&|e| e.push(Entry::new("a/data/0", [8; 24]))), "there twice");
    refuse(&changed(&|e| e.push(Entry { position: Some(0), ..e[0].clone() })), "overlaps");
    refuse(&changed(&|e| e[0].claimed = Some(pickle.len() as u32 + 20)), "overlaps");
    refuse(&changed(&|e| e[1].claimed = Some(4000)), "misplaced");
    refuse(&changed(&|e| e[1].claimed = Some(0xffff_ffff)), "64-bit size");
    refuse(&changed(&|e| e[0].position = Some(3)), "misplaced");
    refuse(&changed(&|e| e[1].position = Some(0xffff_fff0)), "wrong");
    refuse(&changed(&|e| drop(e.remove(0))), "no `data.pkl`");
    refuse(&changed(&|e| e.push(Entry::new("a/byteorder", *b"big"))), "little-endian");
    // The table of contents claims more entries, more bytes, another place.
    let sound = sound();
    let end = sound.len() - 22;
    for (at, bytes) in [
        (12, &[0xff, 0xff, 0xff, 0x7f][..]),
        (16, &[0xff, 0xff, 0xff, 0x7f]),
        (10, &[0xfe, 0xff]),
        (20, &[9, 0]),
    ] {
        let mut altered = sound.clone();
        altered[end + at..end + at + bytes.len()].copy_from_slice(bytes);
        refuse(&altered, "table of contents");
    }
    let mut huge = sound.clone();
    huge[end + 12..end + 16].copy_from_slice(&[0xff; 4]);
    refuse(&huge, "64-bit table of contents");
}

#[test]
fn large_archives_have_wide_sizes() {
    // The same archive, its table of contents found through the 64-bit records.
    let sound = sound();
    let end = sound.len() - 22;
    let word = |at: usize| u64::from(u32::from_le_bytes(sound[at..at + 4].try_into().unwrap()));
    let (count, bytes, start) = (u64::from(sound[end + 10]), word(end + 12), word(end + 16));
    let mut wide = sound[..end].to_vec();
    wide.extend(b"PK\x06\x06");
    wide.extend(44u64.to_le_bytes());
    wide.extend([0; 12]);
    for field in [count, count, bytes, start] {
        wide.extend(field.to_le_bytes());
    }
    wide.extend(b"PK\x06\x07\0\0\0\0");
    wide.extend((end as u64).to_le_bytes());
    wide.extend(1u32.to_le_bytes());
    wide.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff");
    wide.extend([0xff; 8]);
    wide.extend([0, 0]);
    assert_eq!(read(&wide).unwrap(), read(&sound).unwrap());
    let at = end + 48;
    for lie in [u64::MAX, 1 << 40, start + 1] {
        let mut altered = wide.clone();
        altered[at..at + 8].copy_from_slice(&lie.to_le_bytes());
        assert!(read(&altered).is_err(), "{lie}");
    }
}

#[test]
fn legacy_files_must_hold_what_they_list() {
    let object = with_x(&tensor(b"K\x06", b"K\0", b"K\x06\x85", b"K\x01\x85"));
    let file = |keys: &[u8], count: u64, data: &[u8]| {
        [LEGACY_HEAD, &object, b"\x80\x02](", keys, b"e.", &count.to_le_bytes(), data].concat()
    };
    let key = b"X\x01\0\0\x000";
    assert!(convert(&file(key, 6, &[0; 24])).is_ok());
    refuse(&file(key, 6, &[0; 23]), "ends before its storages");
    refuse(&file(key, u64::MAX, &[0; 24]), "ends before its storages");
    refuse(&file(key, 5, &[0; 24]), "its storage should have 6 elements");
    refuse(&file(b"", 6, &[0; 24]), "no storage `0`");
    refuse(&file(b"X\x01\0\0\x001", 6, &[0; 24]), "no tensor has");
    refuse(&file(b"K\x01", 6, &[0; 24]), "no text");
    let big = [&LEGACY_HEAD[..LEGACY_HEAD.len() - 3], b"\x89s.", &object].concat();
    refuse(&big, "big-endian");
}

#[test]
fn other_files_are_named() {
    for (bytes, what) in [
        (&b""[..], "empty"),
        (b"hello, this is text", "not a PyTorch checkpoint"),
        (b"\x80\x02}.", "not a PyTorch checkpoint"),
        (&[0; 4096], "not a PyTorch checkpoint"),
        (b"PK\x03\x04", "no table of contents"),
        (b"PK\x03\x04 and the rest of a zip archive", "no table of contents"),
        (b"GGUF\x03\0\0\0", "not a PyTorch checkpoint"),
    ] {
        refuse(bytes, what);
    }
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    refuse(&tar, "tar format");
    for (pickle, what) in [
        (&b"\x80\x02]."[..], "not a dictionary"),
        (b"\x80\x02}.", "no tensors"),
        (b"\x80\x02}X\x0a\0\0\0state_dictNs.", "`state_dict`"),
    ] {
        refuse_pickle(pickle, what);
    }
}
