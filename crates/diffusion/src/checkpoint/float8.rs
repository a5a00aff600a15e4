//! The two 8-bit floating-point formats that weights are stored in.

/// An 8-bit format.
///
/// # Source
/// Micikevicius et al. 2022, "FP8 formats for deep learning"; E4M3 without infinities, as PyTorch's
/// `float8_e4m3fn`. Values that are too large become what PyTorch's conversion gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Float8 {
    E4m3,
    E5m2,
}

impl Float8 {
    /// Bits of the fraction.
    fn fraction_bits(self) -> i32 {
        match self {
            Self::E4m3 => 3,
            Self::E5m2 => 2,
        }
    }

    /// Exponent of the smallest normal number.
    fn least_exponent(self) -> i32 {
        match self {
            Self::E4m3 => -6,
            Self::E5m2 => -14,
        }
    }

    /// The first value above the largest finite one that rounding can reach, and what stands in its place.
    fn overflow(self) -> (f32, f32) {
        match self {
            Self::E4m3 => (480.0, f32::NAN),
            Self::E5m2 => (65536.0, f32::INFINITY),
        }
    }

    /// The value of each of the 256 bit patterns.
    pub fn table(self) -> [f32; 256] {
        std::array::from_fn(|bits| self.decode(bits as u8))
    }

    fn decode(self, bits: u8) -> f32 {
        let fraction_bits = self.fraction_bits();
        let magnitude = i32::from(bits & 0x7f);
        let (exponent, fraction) = (magnitude >> fraction_bits, magnitude & ((1 << fraction_bits) - 1));
        let unit = exp2(self.least_exponent() - fraction_bits);
        let value = match (self, magnitude) {
            (Self::E4m3, 0x7f) | (Self::E5m2, 0x7d..) => f32::NAN,
            (Self::E5m2, 0x7c) => f32::INFINITY,
            _ if exponent == 0 => fraction as f32 * unit,
            _ => ((1 << fraction_bits) + fraction) as f32 * unit * exp2(exponent - 1),
        };
        if bits & 0x80 == 0 { value } else { -value }
    }

    /// The nearest value of the format, of two equally near ones the even one.
    pub fn round(self, value: f32) -> f32 {
        if !value.is_finite() {
            return match self {
                Self::E4m3 => f32::NAN,
                Self::E5m2 => value,
            };
        }
        let exponent = (((value.to_bits() >> 23) & 0xff) as i32 - 127).max(self.least_exponent());
        // Powers of two, so neither division nor product rounds.
        let step = exp2(exponent - self.fraction_bits());
        let rounded = (value / step).round_ties_even() * step;
        let (limit, beyond) = self.overflow();
        if rounded.abs() >= limit { beyond.copysign(value) } else { rounded }
    }
}

/// Two to a power within the normal range of f32.
fn exp2(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_rounds_to_itself() {
        for format in [Float8::E4m3, Float8::E5m2] {
            for value in format.table() {
                let rounded = format.round(value);
                assert!(
                    rounded.to_bits() == value.to_bits() || (rounded.is_nan() && value.is_nan()),
                    "{value}"
                );
            }
        }
    }

    /// Bit patterns given by PyTorch 2.8: `torch.tensor(x).to(torch.float8_e4m3fn)` and `float8_e5m2`.
    #[test]
    fn values_round_as_in_pytorch() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/float8.json");
        let wanted: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut compared = 0;
        for (format, name) in [(Float8::E4m3, "float8_e4m3fn"), (Float8::E5m2, "float8_e5m2")] {
            let numbers =
                |key: &str| -> Vec<u32> { serde_json::from_value(wanted[name][key].clone()).unwrap() };
            let table: Vec<f32> = numbers("table").into_iter().map(f32::from_bits).collect();
            for (found, wanted) in format.table().into_iter().zip(&table) {
                assert!(
                    found == *wanted || (found.is_nan() && wanted.is_nan()),
                    "{name}: {found} is not {wanted}"
                );
            }
            let inputs: Vec<u32> = serde_json::from_value(wanted["inputs"].clone()).unwrap();
            for (input, bits) in inputs.into_iter().map(f32::from_bits).zip(numbers("rounded")) {
                let (found, wanted) = (format.round(input), table[bits as usize]);
                assert!(
                    found == wanted || (found.is_nan() && wanted.is_nan()),
                    "{name}: {input}: {found} {wanted}"
                );
                compared += 1;
            }
        }
        assert!(compared > 4000);
    }
}
