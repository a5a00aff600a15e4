//! Random bytes never panic.

use crate::archive::{archive, convert};
use crate::fixtures;
use proptest::prelude::*;

/// Instructions that take part in describing tensors; more of these than chance would give reach deeper.
const PIECES: [&[u8]; 30] = [
    b"(",
    b")",
    b"]",
    b"}",
    b"N",
    b"K\x01",
    b"K\x06",
    b"J\xff\xff\xff\xff",
    b"t",
    b"l",
    b"d",
    b"\x85",
    b"\x86",
    b"\x87",
    b"R",
    b"\x81",
    b"b",
    b"Q",
    b"s",
    b"u",
    b"a",
    b"e",
    b"0",
    b"1",
    b"2",
    b"q\0",
    b"h\0",
    b"X\x01\0\0\x000",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000NK\x06tQ",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = convert(&bytes);
        let _ = convert(&archive(&bytes));
        let _ = convert(&[b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", &bytes[..]].concat());
        let _ = convert(&[b"PK\x03\x04", &bytes[..]].concat());
    }

    #[test]
    fn instructions(picks in proptest::collection::vec(0..PIECES.len(), 0..60)) {
        let mut pickle: Vec<u8> = picks.iter().flat_map(|&pick| PIECES[pick].to_vec()).collect();
        pickle.push(b'.');
        let _ = convert(&archive(&pickle));
    }

    #[test]
    fn changes(file in 0..15usize, changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut all = fixtures::all();
        let count = all.len();
        let (_, mut bytes) = all.swap_remove(file % count);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(output) = convert(&bytes) {
            prop_assert!(safetensors::SafeTensors::deserialize(&output).is_ok());
        }
    }
}
