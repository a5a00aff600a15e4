//! The innermost loop of every product: some rows times one panel of columns, held in registers.

use pulp::Simd;

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    Zero,
    /// One value per column.
    Bias(*const f32),
    /// What the destination holds.
    Out,
}

/// Rows `x` times a panel: `out[j][i] = start + sum over k of x[j][k] * panel[k][i]`.
///
/// A panel is as wide as two vectors. Each sum runs over `k` in order, one fused step at a time, whatever the number
/// of rows: how rows are divided among calls does not change their bits.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub count: usize,
    pub depth: usize,
    /// `[depth][width of a panel]`.
    pub panel: *const f32,
    pub x: *const f32,
    /// Distance between rows, and between the values of one.
    pub x_row: usize,
    pub x_step: usize,
    pub out: *mut f32,
    pub out_row: usize,
    pub start: Start,
}

impl Rows {
    /// # Safety
    /// All pointers must be valid for the extents that the fields describe, and `out` must not overlap what is read.
    #[inline(always)]
    pub(crate) unsafe fn run<S: Simd>(self, simd: S) {
        // SAFETY: passed on to the caller.
        unsafe { if self.x_step == 1 { self.tiles::<S, true>(simd) } else { self.tiles::<S, false>(simd) } }
    }

    #[inline(always)]
    unsafe fn tiles<S: Simd, const UNIT: bool>(mut self, simd: S) {
        // SAFETY: as for `run`; a tile never takes more rows than are left.
        unsafe {
            if S::REGISTER_COUNT >= 32 {
                while self.count >= 12 {
                    self.tile::<S, 12, UNIT>(simd);
                }
            }
            while self.count >= 6 {
                self.tile::<S, 6, UNIT>(simd);
            }
            match self.count {
                5 => self.tile::<S, 5, UNIT>(simd),
                4 => self.tile::<S, 4, UNIT>(simd),
                3 => self.tile::<S, 3, UNIT>(simd),
                2 => self.tile::<S, 2, UNIT>(simd),
                1 => self.tile::<S, 1, UNIT>(simd),
                _ => {}
            }
        }
    }

    /// Computes the first `N` rows and steps behind them.
    #[inline(always)]
    unsafe fn tile<S: Simd, const N: usize, const UNIT: bool>(&mut self, simd: S) {
        let step = if UNIT { 1 } else { self.x_step };
        let lanes = S::F32_LANES;
        // SAFETY: as for `run`.
        unsafe {
            let mut sums = [[simd.splat_f32s(0.0); 2]; N];
            match self.start {
                Start::Zero => {}
                Start::Bias(bias) => sums = [[read::<S>(bias), read::<S>(bias.add(lanes))]; N],
                Start::Out => {
                    for (j, sums) in sums.iter_mut().enumerate() {
                        let from = self.out.add(j * self.out_row);
                        *sums = [read::<S>(from), read::<S>(from.add(lanes))];
                    }
                }
            }
            let (mut panel, mut x) = (self.panel, self.x);
            for _ in 0..self.depth {
                let columns = [read::<S>(panel), read::<S>(panel.add(lanes))];
                for (j, sums) in sums.iter_mut().enumerate() {
                    let value = simd.splat_f32s(*x.add(j * self.x_row));
                    sums[0] = simd.mul_add_e_f32s(columns[0], value, sums[0]);
                    sums[1] = simd.mul_add_e_f32s(columns[1], value, sums[1]);
                }
                panel = panel.add(2 * lanes);
                x = x.add(step);
            }
            for (j, sums) in sums.iter().enumerate() {
                let to = self.out.add(j * self.out_row);
                to.cast::<S::f32s>().write_unaligned(sums[0]);
                to.add(lanes).cast::<S::f32s>().write_unaligned(sums[1]);
            }
            self.x = self.x.wrapping_add(N * self.x_row);
            self.out = self.out.wrapping_add(N * self.out_row);
            self.count -= N;
        }
    }
}

/// # Safety
/// A whole vector must lie at `from`.
#[inline(always)]
unsafe fn read<S: Simd>(from: *const f32) -> S::f32s {
    // SAFETY: passed on to the caller.
    unsafe { from.cast::<S::f32s>().read_unaligned() }
}
