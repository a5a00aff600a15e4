//! Numbers as Python's `random` module draws them.

use super::noise::TorchGenerator;

/// Returns what Python's `random.seed(seed); random.randint(0, choices - 1)` gives.
///
/// # Source
/// Matsumoto and Nishimura 2002 (mt19937 seeded by an array); CPython draws as many bits as `choices` has until they
/// are below it.
pub(crate) fn python_randint(seed: u32, choices: usize) -> usize {
    if choices == 0 {
        return 0;
    }
    let mut generator = TorchGenerator::from_key(seed);
    let bits = usize::BITS - choices.leading_zeros();
    loop {
        let drawn = (generator.next_u32() >> (u32::BITS - bits.min(u32::BITS))) as usize;
        if drawn < choices {
            return drawn;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_python() {
        // for s in range(1, 9): random.seed(s); random.randint(0, n - 1)
        let drawn = |choices| (1..9).map(|seed| python_randint(seed, choices)).collect::<Vec<_>>();
        assert_eq!(drawn(1), [0; 8]);
        assert_eq!(drawn(2), PYTHON_2);
        assert_eq!(drawn(7), PYTHON_7);
    }

    const PYTHON_2: [usize; 8] = [0, 0, 0, 0, 1, 0, 1, 0];
    const PYTHON_7: [usize; 8] = [1, 6, 1, 1, 4, 6, 2, 1];
}
